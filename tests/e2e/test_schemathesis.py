"""Requests made up from our own OpenAPI document: none of them may be a 5xx, and each error has the
shape of its dialect."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
import schemathesis_hooks as hooks
from server import Server, running_server

UNSAFE = r"^/admin/(load|unload|reload|warm|drain|undrain|events)$|^/v1/(un)?load_lora_adapter$"
"""A command that works takes the model away, one that fails is a report of every worker, events
never end, and adapters may be asked of the hub."""
NUMBERS = (
    r"^(/v[12])?/(embed|embeddings|rerank|score|classify|predict|similarity)$|^/api/embed(dings)?$"
)
"""Tested apart, as all together would take too long for one test."""
EXAMPLES_PER_OPERATION = 10
HOOKS = {"SCHEMATHESIS_HOOKS": hooks.__name__, "PYTHONPATH": str(Path(hooks.__file__).parent)}


@pytest.mark.timeout(540)
def test_no_request_of_the_schema_is_a_server_error(tiny_model: Path, tmp_path: Path) -> None:
    with running_server(
        tmp_path,
        tiny_model,
        request_timeout_seconds=0.05,  # most of what is made up is a long answer
        responses_store=tmp_path / "r.db",
        jobs_dir=tmp_path / "jobs",
    ) as server:
        left_out = f"{UNSAFE}|{NUMBERS}"
        check(
            server,
            tmp_path,
            f"--exclude-path-regex={left_out}",
            lambda path: re.search(left_out, path) is None,
        )


@pytest.mark.timeout(540)
def test_no_request_for_numbers_is_a_server_error(tmp_path: Path) -> None:
    from tiny_encoders import save_encoder  # it imports torch

    with running_server(tmp_path, save_encoder(tmp_path / "encoder")) as server:
        check(
            server,
            tmp_path,
            f"--include-path-regex={NUMBERS}",
            lambda path: re.search(NUMBERS, path) is not None,
            "no_server_error_but_late",
        )


def check(
    server: Server,
    folder: Path,
    which: str,
    is_tested: Callable[[str], bool],
    no_5xx: str = "not_a_server_error",
) -> None:
    """Try these operations, and see that none of them was left out."""
    done = subprocess.run(
        [
            str(Path(sys.executable).with_name("schemathesis")),
            "run",
            server.url + "/openapi.json",
            f"--checks={no_5xx},error_shape",
            "--mode=all",
            f"--max-examples={EXAMPLES_PER_OPERATION}",
            "--phases=examples,coverage,fuzzing",
            "--request-timeout=30",
            "--seed=1",
            "--no-color",
            which,
        ],
        cwd=folder,
        env=os.environ | HOOKS,
        capture_output=True,
        text=True,
        timeout=520,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]
    document = httpx.get(server.url + "/openapi.json").json()
    operations = [path for path, methods in document["paths"].items() for _ in methods]
    tested = sum(map(is_tested, operations))
    assert f"Tested: {tested}" in done.stdout, "an operation was left out"
    assert "Traceback" not in server.log


def test_errors_of_another_dialects_shape_are_told() -> None:
    openai = {"error": {"message": "m", "type": "t", "param": None, "code": "c"}}
    anthropic = {"type": "error", "error": {"type": "t", "message": "m"}, "request_id": "r"}
    shapes: dict[str, dict[str, Any]] = {
        "/v1/chat/completions": openai,
        "/v1/messages/count_tokens": anthropic,
        "/api/chat": {"error": "m"},
        "/info": {"error": "m", "error_type": "t"},
        "/v2/rerank": openai | {"message": "m"},
    }
    for path in shapes:
        for other, body in shapes.items():
            assert (hooks.shape_of(path, body) is None) is (path == other)
