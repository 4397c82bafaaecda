"""A model of custom code that hangs in its forward pass while a file says so."""

from __future__ import annotations

import json
from pathlib import Path

from make_model import make_model

CODE = """
import time
from pathlib import Path

from transformers import LlamaForCausalLM


class HangingLlama(LlamaForCausalLM):
    def forward(self, *args, **kwargs):
        while Path({switch!r}).exists():
            time.sleep(0.02)
        return super().forward(*args, **kwargs)
"""


def make_hanging_model(folder: Path) -> Path:
    """Make the model; returns the file whose existence makes every step hang."""
    make_model("tiny-llama", folder)
    switch = folder / "hang"
    (folder / "modeling_hanging.py").write_text(CODE.format(switch=str(switch)))
    config = json.loads((folder / "config.json").read_text())
    config["auto_map"] = {"AutoModelForCausalLM": "modeling_hanging.HangingLlama"}
    (folder / "config.json").write_text(json.dumps(config))
    return switch
