"""Rows of one batch with adapters of their own, and without any, against transformers' `generate`
with each adapter merged into the weights; in float32. Twice, so that the second time every size of
step is a graph; then an adapter by an old name from other files.
"""

from __future__ import annotations

import asyncio
import sys
import tempfile
import time
import traceback
from collections.abc import Sequence
from pathlib import Path

import torch
from make_model import make_model
from transformers import GenerationConfig

from llmserve.domain import AdapterSpec, ModelSpec
from llmserve.engines.adapters.adapter import read_adapter
from llmserve.engines.adapters.hooks import linear_layers
from llmserve.engines.engine import Generator
from llmserve.engines.weights.loading import LoadedModel, load_model
from measure.adapters.making import make_adapter
from measure.gpu.contact.equality import NEW_TOKENS, answer, prompts_of, small_engine

MODELS = ("tiny-llama", "tiny-qwen3", "tiny-gpt-oss")
RANKS = {"four": 4, "seven": 7, "forty": 40}
MAX_RANK = 64

Answers = dict[str | None, list[list[int]]]


def main(argv: Sequence[str]) -> int:
    """`adapters [device]`."""
    device = argv[0] if argv else "cuda:0"
    failed = 0
    for name in MODELS:
        begun = time.monotonic()
        try:
            told = _model(name, device)
        except Exception:
            traceback.print_exc()
            told = "raised " + traceback.format_exc().strip().splitlines()[-1]
        failed += not told.startswith("equal")
        print(f"=> {name}: {told} ({time.monotonic() - begun:.1f} s)", flush=True)
    return 1 if failed else 0


def _model(name: str, device: str) -> str:
    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch) / name
        make_model(name, path)
        spec = ModelSpec(name, path=path, dtype="float32", device=device)
        folders = {
            adapter: make_adapter(path, Path(scratch) / adapter, rank, rank, size=0.3)
            for adapter, rank in RANKS.items()
        }
        loaded = load_model(spec, path, lambda progress: None)
        prompts = prompts_of(loaded.vocab)
        expected: Answers = {None: _generated(loaded, prompts)}
        for adapter, folder in folders.items():
            expected[adapter] = _merged(loaded, folder, prompts)
        del loaded
        return asyncio.run(_compared(spec, path, folders, prompts, expected))


async def _compared(
    spec: ModelSpec,
    path: Path,
    folders: dict[str, Path],
    prompts: list[list[int]],
    expected: Answers,
) -> str:
    engine = small_engine(spec, path)
    try:
        await engine.load(lambda progress: None)
        for adapter, folder in folders.items():
            await engine.load_adapter(AdapterSpec(adapter, path=folder), folder)
        wrong = []
        for number in ("first", "second"):
            wrong += [f"{number}: {each}" for each in await _wrong(engine, prompts, expected)]
        await engine.unload_adapter("four")
        await engine.load_adapter(AdapterSpec("four", path=folders["seven"]), folders["seven"])
        wrong += await _wrong(engine, prompts, expected | {"four": expected["seven"]})
        is_changed = all(expected[adapter] != expected[None] for adapter in folders)
        if not is_changed:
            wrong.append("an adapter changes nothing")
        return f"equal; {engine.info.why}" if not wrong else f"NOT EQUAL: {'; '.join(wrong)}"
    finally:
        await engine.close()


async def _wrong(engine: Generator, prompts: list[list[int]], expected: Answers) -> list[str]:
    keys = [(adapter, index) for index in range(len(prompts)) for adapter in expected]
    wrong = []
    for start in range(0, len(keys), engine.capacity):
        some = keys[start : start + engine.capacity]
        told = await asyncio.gather(
            *(answer(engine, prompts[index], adapter) for adapter, index in some)
        )
        wrong += [
            f"{adapter} after {len(prompts[index])} tokens"
            for (adapter, index), tokens in zip(some, told, strict=True)
            if tokens != expected[adapter][index]
        ]
    return wrong


@torch.inference_mode()
def _merged(loaded: LoadedModel, folder: Path, prompts: list[list[int]]) -> list[list[int]]:
    pairs = read_adapter(folder, linear_layers(loaded.model), MAX_RANK).pairs
    added = {name: (pair.up @ pair.down).to(loaded.device) for name, pair in pairs.items()}
    before = {name: loaded.model.get_submodule(name).weight.clone() for name in added}
    for name, change in added.items():
        loaded.model.get_submodule(name).weight += change
    try:
        return _generated(loaded, prompts)
    finally:
        for name, weight in before.items():
            loaded.model.get_submodule(name).weight.copy_(weight)


@torch.inference_mode()
def _generated(loaded: LoadedModel, prompts: list[list[int]]) -> list[list[int]]:
    config = GenerationConfig(
        do_sample=False, max_new_tokens=NEW_TOKENS, pad_token_id=loaded.pad_id, use_cache=True
    )
    answers = []
    for prompt in prompts:
        ids = torch.tensor([prompt], device=loaded.device)
        whole = loaded.model.generate(
            ids, attention_mask=torch.ones_like(ids), generation_config=config
        )
        answers.append(whole[0, len(prompt) :].tolist())
    return answers


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
