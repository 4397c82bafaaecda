"""The pages' modules that need no page, tested in Node."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from needs import needs

TESTS = sorted(Path(__file__).parent.glob("*.test.mjs"))


@pytest.mark.parametrize("script", TESTS, ids=lambda script: script.name)
def test_a_module_does_what_its_tests_say(script: Path) -> None:
    done = subprocess.run(
        [needs("node"), "--test", script], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
