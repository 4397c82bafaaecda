"""A short benchmark of chats by guidellm.

Arguments: URL, MODEL, the model's folder, and a folder for what guidellm writes."""

from __future__ import annotations

import json
import os
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

# Read when it is imported. Each process of its own imports all that it has.
os.environ["GUIDELLM__MAX_WORKER_PROCESSES"] = "1"
from guidellm.cli import cli

URL, MODEL, FOLDER, OUT = sys.argv[1:5]


def benchmark() -> dict[str, Any]:
    """Eight requests of 32 tokens and 8 new ones, two at a time, each streamed."""
    written = Path(OUT, "guidellm.json")
    options = {
        "backend": f"kind=openai_http,target={URL},model={MODEL}",
        "profile": "kind=concurrent,streams=2",
        "constraint": "kind=max_requests,count=8",
        "data": "kind=synthetic_text,prompt_tokens=32,output_tokens=8",
        "tokenizer": f"kind=hf_auto,model={FOLDER}",
        "output": f"kind=json,path={written}",
    }
    words = [word for option, value in options.items() for word in (f"--{option}", value)]
    cli(["run", *words, "--disable-console"], standalone_mode=False)
    [done] = json.loads(written.read_text())["benchmarks"]
    requests = done["requests"]
    return {
        "counts": {kind: len(requests[kind]) for kind in ("successful", "errored", "incomplete")},
        "prompt_tokens": [request["prompt_tokens"] for request in requests["successful"]],
        "output_tokens": [request["output_tokens"] for request in requests["successful"]],
        "seconds_to_first": [
            request["time_to_first_token_ms"] / 1000 for request in requests["successful"]
        ],
        "seconds": [request["request_latency"] for request in requests["successful"]],
    }


if __name__ == "__main__":
    print(json.dumps({"version": version("guidellm"), **benchmark()}))
