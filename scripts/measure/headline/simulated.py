"""Writes the simulated model's folder and measures what `generate` costs beside the sleep.

`python -m measure.headline.simulated FOLDER SECONDS` prints the overhead per one-token request as
JSON.
"""

from __future__ import annotations

import json
import shutil
import statistics
import sys
import time
from pathlib import Path
from typing import Final

import torch
from random_models.tokenizer import TRAINED_VOCAB_SIZE, build_tokenizer
from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig

from measure.headline.modeling_simulated import SimulatedConfig, SimulatedForCausalLM

MODELING: Final = "modeling_simulated"
CONTEXT: Final = 256
NUM_TRIALS: Final = 6


def make_simulated_model(folder: Path, forward_seconds: float) -> None:
    """Write config, code, weights and tokenizer of a model that takes so long per token."""
    tokenizer = build_tokenizer(TRAINED_VOCAB_SIZE, CONTEXT)
    config = SimulatedConfig(
        forward_seconds=forward_seconds,
        answer_id=tokenizer.encode(" a")[-1],
        vocab_size=TRAINED_VOCAB_SIZE,
        hidden_size=8,
        num_hidden_layers=1,
        num_attention_heads=1,
        max_position_embeddings=CONTEXT,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        architectures=[SimulatedForCausalLM.__name__],
    )
    config.auto_map = {
        "AutoConfig": f"{MODELING}.SimulatedConfig",
        "AutoModelForCausalLM": f"{MODELING}.SimulatedForCausalLM",
    }
    folder.mkdir(parents=True)
    SimulatedForCausalLM(config).save_pretrained(folder)
    config.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    shutil.copy(Path(__file__).with_name(f"{MODELING}.py"), folder)
    # The code in the folder is our own; only this model's manifest says that it may run.
    (folder / "model.toml").write_text("trust_remote_code = true\n", encoding="utf-8")


def measure_overhead(folder: Path) -> dict[str, float]:
    """Wall and CPU seconds of a one-token `generate`, less the sleep: the median of some."""
    torch.set_num_threads(1)
    tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=True)
    model = AutoModelForCausalLM.from_pretrained(folder, trust_remote_code=True).eval()
    ids = torch.tensor([tokenizer.encode("Hello there")])
    settings = GenerationConfig(max_new_tokens=1, do_sample=False, pad_token_id=0)
    wall, cpu = [], []
    for _ in range(NUM_TRIALS):
        wall_from, cpu_from = time.perf_counter(), time.process_time()
        model.generate(ids, attention_mask=torch.ones_like(ids), generation_config=settings)
        wall.append(time.perf_counter() - wall_from - model.config.forward_seconds)
        cpu.append(time.process_time() - cpu_from)
    # The first is left out: it imports and compiles.
    return {
        "wall_seconds": statistics.median(wall[1:]),
        "cpu_seconds": statistics.median(cpu[1:]),
    }


if __name__ == "__main__":
    make_simulated_model(Path(sys.argv[1]), float(sys.argv[2]))
    print(json.dumps(measure_overhead(Path(sys.argv[1]))))
