"""A program called nvidia-smi that answers for GPUs of a test's making."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path

PROGRAM = """#!{python}
import json, sys
fields = next(a for a in sys.argv if a.startswith("--query-gpu=")).partition("=")[2].split(",")
for number, gpu in enumerate(json.loads({gpus!r})):
    gpu["index"] = str(number)
    print(", ".join(gpu[field] for field in fields))
"""


def gpu(
    uuid: str, mebibytes: int | str, name: str = "NVIDIA H100", mig: str = "Disabled"
) -> dict[str, str]:
    """What nvidia-smi tells of one."""
    return {"uuid": uuid, "name": name, "mig.mode.current": mig, "memory.free": str(mebibytes)}


def install(folder: Path, gpus: Sequence[dict[str, str]]) -> None:
    """Put the program there; the folder goes into PATH."""
    program = folder / "nvidia-smi"
    program.write_text(PROGRAM.format(python=sys.executable, gpus=json.dumps(gpus)))
    program.chmod(0o755)
