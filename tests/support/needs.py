"""What a test needs installed: CI must have it, elsewhere the test is skipped."""

from __future__ import annotations

import importlib.util
import os
import shutil
from pathlib import Path

import pytest


def needs(name: str) -> str:
    """The path of a program."""
    path = shutil.which(name) or shutil.which(name, path="/usr/sbin:/sbin")
    if path is None and not os.environ.get("CI"):
        pytest.skip(f"{name} is missing; install it to run this test")
    assert path is not None, f"{name} is missing, and CI must have it"
    return path


def needs_installed(folder: Path) -> Path:
    """An environment that scripts/test installs."""
    is_whole = (folder / ".llmserve-stamp").is_file()
    if not is_whole and not os.environ.get("CI"):
        pytest.skip(f"{folder.name} is not installed; `scripts/test tests/clients` does it")
    assert is_whole, f"{folder.name} is not installed, and CI must have it"
    return folder


def needs_package(name: str) -> None:
    """A package of an extra, for a whole file: called before what imports it."""
    is_there = importlib.util.find_spec(name) is not None
    if not is_there and not os.environ.get("CI"):
        pytest.skip(f"{name} is missing; install it to run this file", allow_module_level=True)
    assert is_there, f"{name} is missing, and CI must have it"
