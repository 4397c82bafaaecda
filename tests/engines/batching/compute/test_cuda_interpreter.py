"""The Triton kernels without a GPU: their tests once more, in Triton's interpreter."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest


def test_kernels_are_right_in_the_interpreter() -> None:
    if find_spec("triton") is None:
        assert not os.environ.get("CI"), "triton is missing, and CI must have it"
        pytest.skip("triton is missing; pip install triton")
    # Triton decides when it is imported, which this process may have done already.
    names = ("test_cuda_kernels.py", "test_cuda_low_rank.py")
    tests = [str(Path(__file__).with_name(name)) for name in names]
    options = ["-q", "--noconftest", "-p", "no:cacheprovider", "-m", "not gpu"]
    ran = subprocess.run(
        [sys.executable, "-m", "pytest", *options, *tests],
        env={**os.environ, "TRITON_INTERPRET": "1"},
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert " passed" in ran.stdout
