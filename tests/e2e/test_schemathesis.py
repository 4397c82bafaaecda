"""Requests made up from our own OpenAPI document: none of them may be a 5xx."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import httpx
import pytest
from server import running_server

UNSAFE = r"^/admin/(load|unload|reload|warm|events)$"
"""A command that works takes the model away, and events never end."""
EXAMPLES_PER_OPERATION = 10


@pytest.mark.timeout(540)
def test_no_request_of_the_schema_is_a_server_error(tiny_model: Path, tmp_path: Path) -> None:
    with running_server(
        tmp_path, tiny_model, request_timeout_seconds=0.2, responses_store=tmp_path / "r.db"
    ) as server:
        done = subprocess.run(
            [
                str(Path(sys.executable).with_name("schemathesis")),
                "run",
                server.url + "/openapi.json",
                "--checks=not_a_server_error",
                "--mode=all",
                f"--max-examples={EXAMPLES_PER_OPERATION}",
                "--phases=examples,coverage,fuzzing",
                "--request-timeout=30",
                "--seed=1",
                "--no-color",
                f"--exclude-path-regex={UNSAFE}",
            ],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=520,
            check=False,
        )
        assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]
        document = httpx.get(server.url + "/openapi.json").json()
        operations = [path for path, methods in document["paths"].items() for _ in methods]
        tested = sum(re.search(UNSAFE, path) is None for path in operations)
        assert f"Tested: {tested}" in done.stdout, "an operation was left out"

        assert "Traceback" not in server.log
