"""Which modules a fresh interpreter has after it ran something."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence

REPORT = """
import atexit, json, sys
atexit.register(lambda: print("\\nIMPORTED", json.dumps(sorted(sys.modules))))
"""


def imported_by(code: str, arguments: Sequence[str] = ()) -> set[str]:
    """Names of all modules in `sys.modules` when this code has ended."""
    done = subprocess.run(
        [sys.executable, "-c", REPORT + code, *arguments],
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return set(json.loads(done.stdout.rpartition("IMPORTED")[2]))


def tops(modules: set[str]) -> set[str]:
    """The packages that these modules are of."""
    return {name.partition(".")[0] for name in modules}
