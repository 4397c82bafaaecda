"""A module that a server cannot import before the test lets it."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

# Found by every interpreter that starts with this folder in PYTHONPATH. It waits where the module's
# own code would run: finders are asked under the lock of all imports.
HOOK = """
import importlib.abc, importlib.machinery, os, sys, time

class Gate(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path, target=None):
        if name != {module!r}:
            return None
        spec = importlib.machinery.PathFinder.find_spec(name, path)
        execute = spec.loader.exec_module

        def wait_and_execute(module):
            while not os.path.exists({opened!r}):
                time.sleep(0.01)
            execute(module)

        spec.loader.exec_module = wait_and_execute
        return spec

sys.meta_path.insert(0, Gate())
"""


class Gate:
    """Closed until `open`."""

    def __init__(self, opened: Path) -> None:
        self._opened = opened

    def open(self) -> None:
        self._opened.touch()


@contextlib.contextmanager
def gate_before(module: str, folder: Path) -> Iterator[Gate]:
    """Processes that are started meanwhile wait before they import this module."""
    hooks, opened = folder / "hooks", folder / "gate-is-open"
    hooks.mkdir()
    (hooks / "sitecustomize.py").write_text(HOOK.format(module=module, opened=str(opened)))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(hooks), prepend=os.pathsep)
        gate = Gate(opened)
        try:
            yield gate
        finally:
            gate.open()
