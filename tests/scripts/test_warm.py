"""scripts/warm: the ways it can go wrong have exit codes; then a warm model."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest
from server import Server, free_port

WARM = Path(__file__).parents[2] / "scripts" / "warm"
ADMIN_KEY = "an-admin-key"


def warm(*arguments: str, key: str | None = ADMIN_KEY) -> subprocess.CompletedProcess[str]:
    if shutil.which("curl") is None and not os.environ.get("CI"):
        pytest.skip("curl is missing; install it to run this test")
    environment = {k: v for k, v in os.environ.items() if not k.startswith("LLMSERVE_")}
    if key is not None:
        environment["LLMSERVE_ADMIN_KEY"] = key
    return subprocess.run(
        [WARM, *arguments], capture_output=True, text=True, timeout=60, env=environment, check=False
    )


def test_wrong_arguments_are_2_and_tell_what_there_is() -> None:
    assert warm("-z").returncode == 2
    ran = warm("leftover")
    assert (ran.returncode, ran.stdout) == (2, "")
    assert "unexpected argument: leftover" in ran.stderr
    assert "-x PREFIX" in warm("-h").stderr


def test_a_server_that_does_not_answer_is_3() -> None:
    ran = warm("-u", f"http://127.0.0.1:{free_port()}", "-w", "0")
    assert (ran.returncode, ran.stdout) == (3, "")
    assert "does not answer" in ran.stderr


def test_a_refusal_is_1_with_what_the_server_said(guarded: Server) -> None:
    ran = warm("-u", guarded.url, key="wrong")
    assert ran.returncode == 1
    assert "403" in ran.stderr or "401" in ran.stderr
    ran = warm("-u", guarded.url, key=None)
    assert (ran.returncode, "401" in ran.stderr) == (1, True)
    ran = warm("-u", guarded.url, "-m", "no such model")
    assert (ran.returncode, "400" in ran.stderr) == (1, True)
    assert ADMIN_KEY not in ran.stderr


def test_prompts_run_and_prefixes_are_pinned_whatever_they_contain(guarded: Server) -> None:
    nasty = "a \"quoted\" \\ text\n\twith lines, and 'more' $HOME `x`"
    ran = warm("-u", guarded.url + "/", "-p", "Once upon", "-p", nasty, "-x", nasty)
    assert ran.returncode == 0, ran.stderr
    answer = json.loads(ran.stdout)
    assert answer["ok"]
    assert len(answer["workers"]) == 1
