"""Models that come and go on one device: one answers while another is built, and what a model had
of the device's memory comes back when it is unloaded."""

from __future__ import annotations

import asyncio
import sys
import tempfile
from pathlib import Path
from typing import Final

import torch
from make_model import make_model
from random_models.presets import PRESETS

from llmserve.domain import ModelSpec
from llmserve.engines.engine import Generator
from measure.gpu.contact.equality import answer, prompts_of, small_engine

PRESET: Final = "tiny-llama"
ROUNDS: Final = 3
MOST_KEPT: Final = 64 * 2**20
"""Bytes of the device's memory that may be missing after the first round: libraries keep some."""


def main(argv: list[str]) -> int:
    """`turnover [DEVICE [DTYPE]]`."""
    device = argv[0] if argv else "cuda:0"
    dtype = argv[1] if len(argv) > 1 else "float32"
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / PRESET
        make_model(PRESET, path)
        return asyncio.run(_run(ModelSpec(PRESET, path=path, dtype=dtype, device=device), path))


async def _run(spec: ModelSpec, path: Path) -> int:
    free = []
    is_right = True
    for number in range(ROUNDS):
        is_right = await _round(spec, path) and is_right
        free.append(_free_bytes(spec.device))
        print(f"=> round {number + 1}: {free[-1]:,} bytes are free after it", flush=True)
    kept = free[0] - free[-1]
    print(f"=> {ROUNDS} rounds; {kept:,} bytes did not come back after the first")
    return 0 if is_right and kept <= MOST_KEPT else 1


async def _round(spec: ModelSpec, path: Path) -> bool:
    """A serves alone, then while B is built, then beside B, then after B has gone."""
    prompts = prompts_of(PRESETS[PRESET].config().vocab_size)
    first, second = small_engine(spec, path), small_engine(spec, path)
    try:
        await first.load(lambda progress: None)
        expected = await _answers(first, prompts)
        building = asyncio.create_task(second.load(lambda progress: None))
        meanwhile = 0
        is_right = True
        while not building.done():
            is_right = await _answers(first, prompts) == expected and is_right
            meanwhile += 1
        await building
        both = await asyncio.gather(_answers(first, prompts), _answers(second, prompts))
        is_right = is_right and both == [expected, expected]
        await second.close()
        is_right = is_right and await _answers(first, prompts) == expected
    finally:
        await second.close()
        await first.close()
    verdict = "all equal" if is_right else "ANSWERS DIFFER"
    print(f"=> {meanwhile} times all answers while another model was built; {verdict}")
    return is_right


async def _answers(engine: Generator, prompts: list[list[int]]) -> list[list[int]]:
    return list(await asyncio.gather(*(answer(engine, prompt) for prompt in prompts)))


def _free_bytes(device: str) -> int:
    return torch.cuda.mem_get_info(torch.device(device))[0] if device != "cpu" else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
