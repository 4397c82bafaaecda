"""Pinned prefixes: bounds and refusals; then the same tokens with and without, model by model."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import torch
from bounded import run
from make_model import PRESETS, make_model
from transformers import AutoConfig, AutoModelForCausalLM, GenerationConfig
from transformers.cache_utils import DynamicSlidingWindowLayer

import llmserve.engines.threaded.engine as threaded
from llmserve.domain import (
    Conversation,
    Delta,
    Failed,
    Finish,
    Message,
    ModelSpec,
    Prompt,
    SamplingFields,
    SamplingParams,
    Started,
    Usage,
)
from llmserve.engines.job import Job
from llmserve.engines.mailbox import Mailbox
from llmserve.engines.options import EngineOptions
from llmserve.engines.task import TokenTask
from llmserve.engines.threaded.engine import ThreadedEngine
from llmserve.engines.threaded.pinned_prefixes import (
    Pinned,
    PinnedPrefixes,
    PrefixRefused,
    pin,
)
from llmserve.engines.weights.loading import LoadedModel
from llmserve.errors import GenerationFailed, OutOfMemory
from llmserve.text.tokenizer import Tokenizer

pytestmark = pytest.mark.usefixtures("no_thread_left")

TEXT = "The quick brown fox jumps over the lazy dog. " * 6
MINIATURES = [name for name, preset in PRESETS.items() if preset.is_tiny]
NO_PINS = "tiny-mamba2"
"""Its layers take a state only token by token."""
GREEDY = SamplingParams(temperature=0.0, ignore_eos=True)
DRAWN = SamplingParams(
    temperature=1.0,
    top_k=40,
    seed=7,
    min_tokens=6,
    repetition_penalty=1.2,
    presence_penalty=0.7,
    frequency_penalty=0.4,
)


@contextlib.asynccontextmanager
async def engine_for(folder: Path, *prefixes: Prompt) -> AsyncIterator[ThreadedEngine]:
    engine = ThreadedEngine(
        ModelSpec("m", path=folder, warmup_prefixes=prefixes),
        EngineOptions(lambda spec, progress: folder, max_running=2, torch_threads=1),
        why="a test",
    )
    try:
        await engine.load(lambda progress: None)
        yield engine
    finally:
        await engine.close()
        assert engine._prefixes.num_bytes == 0


async def answer(
    engine: ThreadedEngine, prompt: Prompt, sampling: SamplingParams = GREEDY
) -> tuple[list[int], int]:
    """The tokens, and how many of the prompt's came from a pinned prefix."""
    mailbox, done = Mailbox(asyncio.get_running_loop()), asyncio.Event()
    task = TokenTask(
        request_id="r",
        prompt_ids=tuple(engine.tokenizer.encode(prompt)),
        sampling=sampling,
        max_tokens=8,
    )
    engine.start(Job(task, mailbox, on_done=done.set))
    tokens: list[int] = []
    cached = -1
    while True:
        match await mailbox.next():
            case Started(prompt_tokens, cached_tokens):
                assert prompt_tokens == len(task.prompt_ids)
                cached = cached_tokens
            case Delta(_, token_ids):
                tokens.extend(token_ids)
            case Finish(_, usage):
                assert usage.cached_tokens == cached
                await done.wait()
                return tokens, cached
            case Failed(error, usage):
                assert usage == Usage(len(task.prompt_ids), len(tokens), cached)
                await done.wait()
                raise error


def model_of(model_type: str, max_context: int = 512, **settings: Any) -> LoadedModel:
    """A random model of two layers, without a tokenizer."""
    shape = {"vocab_size": 512, "hidden_size": 64, "intermediate_size": 128}
    heads = {"num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2}
    torch.manual_seed(0)
    wide = {"pad_token_id": 0, "initializer_range": 0.25}  # greedy text wanders
    config = AutoConfig.for_model(model_type, **shape, **heads, **wide, **settings)
    model = AutoModelForCausalLM.from_config(config, dtype=torch.float32).eval()
    model.generation_config = GenerationConfig(pad_token_id=0)
    return LoadedModel(
        model=model,
        tokenizer=Tokenizer([]),
        eos_ids=(),
        pad_id=0,
        sampling=SamplingFields(),
        max_context=max_context,
        device=torch.device("cpu"),
        placement="cpu",
        dtype="float32",
        parameters=0,
        weight_bytes=0,
    )


def generate(model: LoadedModel, prompt: tuple[int, ...], prefix: Pinned | None) -> list[int]:
    kwargs = {} if prefix is None else {"past_key_values": prefix.copy_cache()}
    ids = torch.tensor([prompt])
    with torch.inference_mode():
        return model.model.generate(
            ids, attention_mask=torch.ones_like(ids), max_new_tokens=8, **kwargs
        )[0].tolist()


def test_a_model_that_goes_on_differently_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    model = model_of("llama")
    plain = model.model.forward

    def forgetful(*args: Any, **kwargs: Any) -> Any:
        cache = kwargs["past_key_values"]
        if kwargs["input_ids"].shape[1] > 1 and cache is not None and cache.get_seq_length():
            kwargs["position_ids"] = torch.arange(kwargs["input_ids"].shape[1])[None]
        return plain(*args, **kwargs)

    assert pin(model, (5, 6, 7)).num_bytes == 2 * 2 * 3 * 2 * 16 * 4
    monkeypatch.setattr(model.model, "forward", forgetful)
    with pytest.raises(PrefixRefused, match="not the same"):
        pin(model, (5, 6, 7))


def test_positions_that_change_with_the_length_are_refused() -> None:
    rope = {
        "rope_type": "longrope",
        "rope_theta": 1e4,
        "short_factor": [1.0] * 8,
        "long_factor": [4.0] * 8,
        "original_max_position_embeddings": 64,
    }
    settings = {
        "rope_parameters": rope,
        "max_position_embeddings": 128,
        "original_max_position_embeddings": 64,
    }
    with pytest.raises(PrefixRefused, match=r"over 64 tokens; set max_context to 64 or less"):
        pin(model_of("phi3", max_context=128, **settings), (5, 6, 7))
    assert pin(model_of("phi3", max_context=64, **settings), (5, 6, 7)).token_ids == (5, 6, 7)


@pytest.mark.parametrize(
    ("token_ids", "told"), [((), "no token"), ((5,) * 505, "505 tokens, more than the 504")]
)
def test_a_prefix_of_no_use_is_refused(token_ids: tuple[int, ...], told: str) -> None:
    with pytest.raises(PrefixRefused, match=told):
        pin(model_of("llama"), token_ids)


def test_states_that_a_model_writes_over_are_copied() -> None:
    model = model_of("lfm2", layer_types=["conv", "full_attention"], max_position_embeddings=512)
    prefix = pin(model, tuple(range(5, 40)))
    assert prefix.num_bytes > 35 * 2 * 2 * 16 * 4, "the convolution's state counts"
    prompt = (*range(5, 40), 99, 98)
    plain = generate(model, prompt, None)
    assert generate(model, prompt, prefix) == plain
    assert generate(model, prompt, prefix) == plain


def test_a_sliding_window_goes_on_from_either_side_of_its_size() -> None:
    model = model_of("mistral", sliding_window=16)
    for length in (15, 16, 17, 40):
        prefix = pin(model, tuple(range(5, 5 + length)))
        for layer in prefix.cache.layers:
            assert isinstance(layer, DynamicSlidingWindowLayer)
            assert layer.keys is not None
            assert layer.keys.untyped_storage().nbytes() == layer.keys.nbytes, "only the window"
        for ending in ((99,), tuple(range(60, 90))):
            prompt = (*prefix.token_ids, *ending)
            plain = generate(model, prompt, None)
            assert generate(model, prompt, prefix) == plain
            assert generate(model, prompt, prefix) == plain, "a cache that is used stays as it was"


@pytest.mark.parametrize(
    "raised", [MemoryError(), torch.OutOfMemoryError("CUDA"), RuntimeError("can't allocate memory")]
)
def test_no_memory_for_a_prefix_is_an_error_and_the_engine_serves_on(
    tiny_model: Path, monkeypatch: pytest.MonkeyPatch, raised: Exception
) -> None:
    def fail(*args: object, **kwargs: object) -> Any:
        raise raised

    async def test() -> None:
        async with engine_for(tiny_model) as engine:
            await engine.warm([], [TEXT])
            with monkeypatch.context() as patch:
                patch.setattr(engine._model.model, "forward", fail)
                with pytest.raises(OutOfMemory, match=r"prefix of .* tokens was pinned"):
                    await engine.warm([], ["Another beginning. "])
            assert raised.__traceback__ is None, "its frames would keep the cache alive"
            tokens, cached = await answer(engine, TEXT + "Yes")
            assert len(tokens) == 8
            assert cached > 20, "what was pinned before stays"

    run(test)


def test_a_model_loads_without_the_prefixes_that_found_no_memory(
    tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*args: object) -> Pinned:
        raise MemoryError

    monkeypatch.setattr(threaded, "pin", fail)

    async def test() -> None:
        async with engine_for(tiny_model, TEXT) as engine:
            assert (await answer(engine, TEXT + "Yes"))[1] == 0

    run(test)


def test_a_prefix_that_cannot_be_kept_is_told_and_the_others_are(
    tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def test() -> None:
        async with engine_for(tiny_model) as engine:
            report = await engine.warm([], ["word " * 5000, TEXT, "", (5, 10**6)])
            assert [tokens > 0 for tokens in report.prefix_tokens] == [False, True, False, False]
            long, fits, empty, unknown = report.prefix_problems
            assert fits is None
            assert "in the context of 2,048" in str(long)
            assert "no token" in str(empty)
            assert "outside the vocabulary" in str(unknown)
            monkeypatch.setattr(engine._model.model, "generate", lambda *_, **__: 1 / 0)
            report = await engine.warm([], ["Another beginning. "])
            assert "ZeroDivisionError" in str(report.prefix_problems[0])

    run(test)


def test_a_prefix_that_had_to_make_room_for_later_ones_is_told(tiny_model: Path) -> None:
    async def test() -> None:
        async with engine_for(tiny_model) as engine:
            engine._prefixes = PinnedPrefixes(max_prefixes=1)
            report = await engine.warm([], [TEXT, "Another beginning. "])
            assert report.prefix_tokens[0] == 0
            assert "at most 1 prefixes" in str(report.prefix_problems[0])
            assert report.prefix_problems[1] is None
            assert (await answer(engine, TEXT + "Yes"))[1] == 0

    run(test)


def test_what_fails_after_a_prefix_tells_how_much_was_cached(
    tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def test() -> None:
        async with engine_for(tiny_model, TEXT) as engine:
            monkeypatch.setattr(engine._model.model, "forward", lambda *_, **__: 1 / 0)
            with pytest.raises(GenerationFailed):  # `answer` compares its usage
                await answer(engine, TEXT + "Yes")

    run(test)


def test_a_prefix_is_computed_once(tiny_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def test() -> None:
        async with engine_for(tiny_model, TEXT) as engine:
            num_bytes = engine._prefixes.num_bytes
            assert num_bytes > 0
            monkeypatch.setattr(threaded, "pin", None)
            report = await engine.warm([], [TEXT, TEXT])
            assert report.prefix_problems == (None, None)
            assert engine._prefixes.num_bytes == num_bytes

    run(test)


def test_a_model_that_cannot_go_on_from_a_kept_state_says_so(tmp_path: Path) -> None:
    make_model(NO_PINS, tmp_path / "m")

    async def test() -> None:
        async with engine_for(tmp_path / "m") as engine:
            report = await engine.warm([], [TEXT])
            assert "cannot go on from a kept cache" in str(report.prefix_problems[0])
            assert await answer(engine, TEXT, GREEDY)

    run(test)


@pytest.mark.parametrize("preset", [name for name in MINIATURES if name != NO_PINS])
def test_an_answer_is_the_same_with_a_pinned_prefix(preset: str, tmp_path: Path) -> None:
    make_model(preset, tmp_path / "m")
    asked = [
        (TEXT + ending, sampling)
        for ending in ("And then", "9", "\n\n", "Zebra " * 9)
        for sampling in (GREEDY, DRAWN)
    ]

    async def test() -> None:
        async with engine_for(tmp_path / "m") as engine:
            plain = [await answer(engine, *what) for what in asked]
            assert {cached for _, cached in plain} == {0}
            report = await engine.warm([], [TEXT])
            assert report.prefix_problems == (None,)
            assert report.prefix_tokens[0] > 20
            first = [await answer(engine, *what) for what in asked]
            again = await asyncio.gather(*(answer(engine, *what) for what in asked[:2]))
            assert list(again) == first[:2], "a cache that is used is not written to"
            assert [tokens for tokens, _ in first] == [tokens for tokens, _ in plain]
            assert {cached for _, cached in first} == {report.prefix_tokens[0]}

    run(test)


def test_a_system_prompt_is_pinned_as_its_template_writes_it(tiny_model: Path) -> None:
    async def test() -> None:
        async with engine_for(tiny_model) as engine:
            system = Message("system", "You are a helpful assistant who knows everything.")
            prompt = Conversation((system, Message("user", "Hello there!")))
            plain, _ = await answer(engine, prompt)
            report = await engine.warm(["Hello"], [Conversation((system,))])
            assert len(report.prompt_seconds) == 1
            tokens, cached = await answer(engine, prompt)
            assert (tokens, cached) == (plain, report.prefix_tokens[0])
            assert cached > 10
            opening = engine.tokenizer.render(prompt).partition("Hello there!")[0]
            assert (await engine.warm([], [opening])).prefix_tokens == (cached,), "as text"

    run(test)


def test_token_ids_are_pinned_as_they_are(tiny_model: Path) -> None:
    async def test() -> None:
        async with engine_for(tiny_model, tuple(range(300, 330))) as engine:
            _, cached = await answer(engine, (*range(300, 330), 7))
            assert cached == 30
            _, cached = await answer(engine, tuple(range(300, 330)))
            assert cached == 0, "nothing would be left for prefill"

    run(test)
