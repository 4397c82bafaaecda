"""The same tokens as PEFT's own models, greedy in float32: several adapters in one batch, of mixed
ranks and modules, beside rows without any; in both engines."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from bounded import run
from engines.batching.asked import Asked, engine_of
from make_model import make_model
from peft_adapters import make_adapter, peft_generated, peft_prompt_logprobs

from llmserve.domain import AdapterSpec, EngineKind, PromptLogprobs

pytestmark = [pytest.mark.usefixtures("no_thread_left"), pytest.mark.slow]

ATTENTION = ["q_proj", "k_proj", "v_proj", "o_proj"]
CONFIGS: dict[str, dict[str, Any]] = {
    "all": {"target_modules": "all-linear", "r": 8},
    "two": {"target_modules": ["q_proj", "v_proj"], "r": 3, "lora_alpha": 6},
    "rs": {
        "target_modules": r".*\.(o_proj|k_proj)",
        "r": 16,
        "use_rslora": True,
        "rank_pattern": {"layers.0.self_attn.o_proj": 5},
        "alpha_pattern": {"k_proj": 2},
    },
    "late": {
        "target_modules": ATTENTION,
        "layers_to_transform": [1],
        "exclude_modules": ["o_proj"],
    },
}
PROMPTS = tuple(tuple(range(10 + i, 10 + i + length)) for i, length in enumerate((3, 9, 20, 40)))
COUNT = 10


@dataclass(frozen=True)
class Family:
    base: Path
    adapters: dict[str, Path]
    expected: dict[tuple[str | None, tuple[int, ...]], list[int]]


@pytest.fixture(scope="module", params=["llama", "qwen3", "gpt-oss"])
def family(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Family:
    base = tmp_path_factory.mktemp("family") / request.param
    make_model(f"tiny-{request.param}", base)
    configs = dict(CONFIGS)
    if request.param == "gpt-oss":  # its experts are parameters
        configs["all"] = {"target_modules": ATTENTION, "r": 8}
    adapters = {
        name: make_adapter(base, base.parent / name, seed=seed, **config)
        for seed, (name, config) in enumerate(configs.items())
    }
    expected = {
        (name, prompt): answer
        for name in (None, *adapters)
        for prompt, answer in zip(
            PROMPTS, peft_generated(base, adapters.get(name or ""), PROMPTS, COUNT), strict=True
        )
    }
    return Family(base, adapters, expected)


@pytest.mark.parametrize("kind", [EngineKind.BATCHING, EngineKind.THREADED])
def test_rows_of_a_batch_say_what_peft_says(family: Family, kind: EngineKind) -> None:
    async def test() -> None:
        async with engine_of(family.base, kind, max_running=20) as engine:
            for name, folder in family.adapters.items():
                info = await engine.load_adapter(AdapterSpec(name, path=folder), folder)
                assert info.name == name
                assert info.num_bytes > 0
            assert [info.name for info in engine.adapters] == list(family.adapters)
            assert engine.info.adapter_bytes == sum(info.num_bytes for info in engine.adapters)
            asked = {key: Asked(engine, key[1], COUNT, adapter=key[0]) for key in family.expected}
            answers = await asyncio.gather(*(each.tokens() for each in asked.values()))
            told = dict(zip(asked, answers, strict=True))
            assert told == family.expected
            changed = [key for key in told if told[key] != family.expected[None, key[1]]]
            assert len({key[0] for key in changed}) == len(family.adapters), "each changes answers"

    run(test)


@pytest.mark.parametrize("kind", [EngineKind.BATCHING, EngineKind.THREADED])
def test_what_was_loaded_anew_finds_nothing_of_before(family: Family, kind: EngineKind) -> None:
    prompt = PROMPTS[-1]

    async def test() -> None:
        async with engine_of(family.base, kind) as engine:
            for name in ("two", "rs"):  # by the same name, from other files
                folder = family.adapters[name]
                await engine.load_adapter(AdapterSpec("it", path=folder), folder)
                for salt in ("", "salt", ""):
                    told = await Asked(engine, prompt, COUNT, adapter="it", salt=salt).tokens()
                    assert told == family.expected[name, prompt]
                assert await Asked(engine, prompt, COUNT).tokens() == family.expected[None, prompt]
                again = Asked(engine, prompt, COUNT, adapter="it")
                assert await again.tokens() == family.expected[name, prompt]
                shares = kind is EngineKind.BATCHING
                assert again.job.cached_tokens == (32 if shares else 0)
                await engine.unload_adapter("it")

    run(test)


@pytest.mark.parametrize("kind", [EngineKind.BATCHING, EngineKind.THREADED])
def test_prefixes_are_pinned_without_adapters(family: Family, kind: EngineKind) -> None:
    prompt = PROMPTS[-1]

    async def test() -> None:
        async with engine_of(family.base, kind) as engine:
            report = await engine.warm((), [prompt[:-1]])
            assert report.prefix_tokens[0], report
            folder = family.adapters["two"]
            await engine.load_adapter(AdapterSpec("two", path=folder), folder)
            adapted, plain = (
                Asked(engine, prompt, COUNT, adapter="two"),
                Asked(engine, prompt, COUNT),
            )
            assert await adapted.tokens() == family.expected["two", prompt]
            assert await plain.tokens() == family.expected[None, prompt]
            assert not adapted.job.cached_tokens
            assert plain.job.cached_tokens

    run(test)


@pytest.mark.parametrize("kind", [EngineKind.BATCHING, EngineKind.THREADED])
def test_prompts_are_scored_with_their_adapter(family: Family, kind: EngineKind) -> None:
    prompt = PROMPTS[-1]

    async def test() -> None:
        async with engine_of(family.base, kind) as engine:
            folder = family.adapters["rs"]
            await engine.load_adapter(AdapterSpec("rs", path=folder), folder)
            for name in (None, "rs", None, "rs"):
                path = None if name is None else folder
                asked = Asked(engine, prompt, 1, adapter=name, prompt_logprobs=1)
                told = [
                    token.logprob
                    for event in await asked.events()
                    if isinstance(event, PromptLogprobs)
                    for token in event.tokens
                ]
                expected = peft_prompt_logprobs(family.base, path, prompt)
                assert told == pytest.approx(expected, abs=1e-3)

    run(test)
