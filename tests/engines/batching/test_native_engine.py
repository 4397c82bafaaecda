"""The batching engine with native kernels, which take the model's weights over."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from bounded import run
from engines.batching.asked import Asked
from make_model import make_model
from transformers import AutoModelForCausalLM

from llmserve.domain import EngineKind, ModelSpec, PromptLogprobs
from llmserve.engines.batching.compute.native.instructions import instruction_sets
from llmserve.engines.factory import build_engine
from llmserve.engines.options import EngineOptions

pytestmark = [
    pytest.mark.usefixtures("no_thread_left"),
    pytest.mark.skipif(not instruction_sets(), reason="no instructions that kernels know"),
    pytest.mark.slow,  # kernels are compiled
]


def expected(folder: Path, prompt: Sequence[int]) -> list[float]:
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    with torch.inference_mode():
        rows = model(torch.tensor([list(prompt)])).logits[0, :-1].log_softmax(-1)
    return list(rows.gather(-1, torch.tensor(prompt[1:])[:, None])[:, 0].tolist())


def test_biases_count_and_prompts_are_scored_though_the_heads_weights_are_gone(
    tmp_path: Path,
) -> None:
    folder = tmp_path / "tiny"
    make_model("tiny-llama", folder)
    spec = ModelSpec("tiny", path=folder, dtype="bfloat16", engine=EngineKind.BATCHING)
    options = EngineOptions(lambda spec, report: folder, max_running=4, torch_threads=1)

    async def test() -> None:
        engine = build_engine(spec, options)
        try:
            await engine.load(lambda progress: None)
            assert "native kernels" in engine.info.why
            assert await Asked(engine, (5, 6), 3, logit_bias=((300, 100.0),)).tokens() == [300] * 3
            prompt = tuple(range(300, 360))
            events = await Asked(engine, prompt, 1, prompt_logprobs=1).events()
            told = [t for e in events if isinstance(e, PromptLogprobs) for t in e.tokens]
            values = [token.logprob for token in told]
            assert values == pytest.approx(expected(folder, prompt), abs=0.3)
        finally:
            await engine.close()

    run(test)
