"""The other side: what one writes in Flask. `model.generate` in the handler, a worker per request.

Gunicorn loads it once (`--preload`) and forks. The master makes no forward pass: torch's thread
pools do not survive a fork.
"""

from __future__ import annotations

import json
import os
import uuid
from pathlib import Path
from typing import Any

import torch
from flask import Flask, request
from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig

FOLDERS = "HEADLINE_FOLDERS"


class Model:
    """Tokenizer and weights of a folder."""

    def __init__(self, folder: Path) -> None:
        # The same trust as on llmserve's side: the simulated model's code is this package's own.
        self._tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=True)
        self._model = AutoModelForCausalLM.from_pretrained(
            folder, trust_remote_code=True, dtype=torch.float32
        ).eval()
        # As in llmserve: what the request says holds, and nothing of the folder's defaults.
        self._model.generation_config = GenerationConfig(pad_token_id=self._tokenizer.pad_token_id)

    @torch.inference_mode()
    def generate(self, prompt: str, max_tokens: int, *, ignore_eos: bool) -> dict[str, Any]:
        """A greedy continuation, in the shape of llmserve's answer to POST /generate."""
        # input_ids, (1, prompt_tokens)
        input_ids = torch.tensor([self._tokenizer.encode(prompt)])
        settings = GenerationConfig(
            do_sample=False,
            max_new_tokens=max_tokens,
            pad_token_id=self._tokenizer.pad_token_id,
            eos_token_id=None if ignore_eos else self._tokenizer.eos_token_id,
        )
        output = self._model.generate(
            input_ids, attention_mask=torch.ones_like(input_ids), generation_config=settings
        )
        tokens = output[0, input_ids.shape[1] :].tolist()
        return {
            "result": self._tokenizer.decode(tokens, skip_special_tokens=True),
            "finish_reason": "length" if len(tokens) == max_tokens else "stop",
            "usage": {
                "prompt_tokens": input_ids.shape[1],
                "completion_tokens": len(tokens),
                "total_tokens": output.shape[1],
            },
        }


def create_app() -> Flask:
    """The application over the folders that `HEADLINE_FOLDERS` lists as JSON, by name."""
    torch.set_num_threads(1)
    models = {name: Model(Path(path)) for name, path in json.loads(os.environ[FOLDERS]).items()}
    app = Flask(__name__)

    @app.post("/generate")
    def generate() -> dict[str, Any]:
        body = request.get_json()
        answer = models[body["model"]].generate(
            body["prompt"], body["max_tokens"], ignore_eos=body["ignore_eos"]
        )
        return {"id": uuid.uuid4().hex, "model": body["model"], **answer}

    return app
