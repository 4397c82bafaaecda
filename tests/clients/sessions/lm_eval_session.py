"""lm-eval's tasks by our /v1/completions and by its own `hf` backend, on the same folder.

Arguments: URL, MODEL, and the model's folder."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from lm_eval import simple_evaluate
from lm_eval.tasks import TaskManager

URL, MODEL, FOLDER = sys.argv[1:4]
TASKS = ("choice", "ending", "surprise")
HERE = Path(__file__).parent
# The tasks' data are named from here.
os.chdir(HERE)
torch.set_num_threads(1)


def scores(backend: str, arguments: dict[str, Any], tasks: Sequence[str] = TASKS) -> dict[str, Any]:
    """The metrics of each task, and what was answered to each of its requests."""
    done = simple_evaluate(
        model=backend,
        model_args=arguments,
        tasks=list(tasks),
        task_manager=TaskManager(include_path=str(HERE / "lm_eval_tasks"), include_defaults=False),
        bootstrap_iters=0,
        log_samples=True,
        verbosity="ERROR",
    )
    return {
        task: {
            "metrics": {
                name: value
                for name, value in done["results"][task].items()
                if isinstance(value, float)
            },
            "answers": [sample["resps"] for sample in done["samples"][task]],
        }
        for task in tasks
    }


served = {
    "model": MODEL,
    "base_url": f"{URL}/v1/completions",
    "tokenizer_backend": "huggingface",
    "tokenizer": FOLDER,
    "max_length": 1024,
    "max_retries": 1,
}
report = {
    "version": version("lm-eval"),
    "token_ids": scores("local-completions", served),
    "texts_at_once": scores(
        "local-completions",
        served | {"tokenized_requests": False, "num_concurrent": 4},
        ["choice"],
    ),
    "hf": scores("hf", {"pretrained": FOLDER, "dtype": "float32", "device": "cpu"}),
}
print(json.dumps(report))
