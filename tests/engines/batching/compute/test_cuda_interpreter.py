"""The Triton kernels without a GPU: their tests once more, in Triton's interpreter."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest


@pytest.mark.parametrize("name", ["test_cuda_kernels.py", "test_cuda_low_rank.py"])
def test_kernels_are_right_in_the_interpreter(name: str) -> None:
    if find_spec("triton") is None:
        assert not os.environ.get("CI"), "triton is missing, and CI must have it"
        pytest.skip("triton is missing; pip install triton")
    # Triton decides when it is imported, which this process may have done already.
    options = ["-q", "--noconftest", "-p", "no:cacheprovider", "-m", "not gpu"]
    ran = subprocess.run(
        [sys.executable, "-m", "pytest", *options, Path(__file__).with_name(name)],
        env={**os.environ, "TRITON_INTERPRET": "1"},
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert " passed" in ran.stdout
