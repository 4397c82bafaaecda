"""The GPUs that this process may use, in CUDA's numbering, read from nvidia-smi.

CUDA itself is not asked: that would create a context, which occupies memory of the device.
"""

from __future__ import annotations

import re
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from loguru import logger

FIELDS: Final = ("uuid", "name", "mig.mode.current", "memory.free")
NVIDIA_SMI: Final = (
    "nvidia-smi", f"--query-gpu={','.join(FIELDS)}", "--format=csv,noheader,nounits",
)  # fmt: skip
INDEX: Final = re.compile(r"[+-]?\d+", re.ASCII)
BUS_ORDER: Final = "PCI_BUS_ID"


@dataclass(frozen=True, slots=True)
class Gpu:
    """An installed GPU.

    `free_bytes` is `None` where the driver does not report it: for GPUs that are partitioned (MIG)
    and those that use the host's memory.
    """

    uuid: str
    name: str
    free_bytes: int | None


def installed_gpus() -> list[Gpu]:
    """All GPUs in the order of the PCI bus; none without a driver."""
    try:
        output = subprocess.run(  # noqa: S603 - a fixed command
            NVIDIA_SMI, capture_output=True, text=True, timeout=10, check=True
        ).stdout
    except (OSError, subprocess.SubprocessError):
        return []
    rows = (line.split(", ") for line in output.splitlines())
    return [_gpu(*row) for row in rows if len(row) == len(FIELDS)]


def has_gpus(root: Path = Path("/")) -> bool:
    """Whether the system has NVIDIA GPUs, even if this process may not use them."""
    known, devices = root / "proc/driver/nvidia/gpus", root / "dev"
    return (known.is_dir() and any(known.iterdir())) or any(devices.glob("nvidia[0-9]*"))


def hides_gpus(environment: Mapping[str, str]) -> bool:
    """Whether CUDA_VISIBLE_DEVICES hides all GPUs from this process."""
    chosen = environment.get("CUDA_VISIBLE_DEVICES")
    return chosen is not None and not chosen.strip().startswith((*"0123456789", "GPU-", "MIG-"))


def visible_gpus(installed: Sequence[Gpu], environment: Mapping[str, str]) -> dict[int, int | None]:
    """Free bytes of each GPU by its CUDA index, the N of `cuda:N`; `None` where unknown.

    CUDA_VISIBLE_DEVICES is read as CUDA reads it: indices, or prefixes of UUIDs; the first invalid
    one ends the list, and a duplicate makes it empty. Without CUDA_DEVICE_ORDER=PCI_BUS_ID, CUDA
    numbers unlike GPUs by its own estimate of their speed, which we cannot reproduce.
    """
    chosen = environment.get("CUDA_VISIBLE_DEVICES")
    if chosen is not None and chosen.startswith("MIG-"):
        return dict.fromkeys(range(len(_prefixed(chosen, "MIG-"))))
    if chosen is not None and chosen.startswith("GPU-"):
        numbers, are_sure = _by_uuid(_prefixed(chosen, "GPU-"), installed), True
    else:
        numbers = _by_index(chosen, len(installed))
        is_in_order = environment.get("CUDA_DEVICE_ORDER") == BUS_ORDER
        are_sure = is_in_order or len({gpu.name for gpu in installed}) <= 1
    if numbers and not are_sure:
        logger.warning(
            "the GPUs differ, and which of them is cuda:0 depends on their speed: set "
            "CUDA_DEVICE_ORDER={} to number them as nvidia-smi does",
            BUS_ORDER,
        )
    return {
        visible: installed[number].free_bytes if are_sure else None
        for visible, number in enumerate(numbers)
    }


def _gpu(uuid: str, name: str, mig: str, free: str) -> Gpu:
    is_whole = mig != "Enabled"
    return Gpu(uuid, name, int(free) * 2**20 if is_whole and free.isdecimal() else None)


def _by_index(chosen: str | None, num_installed: int) -> list[int]:
    if chosen is None:
        return list(range(num_installed))
    numbers: list[int] = []
    for word in chosen.split(","):
        found = INDEX.match(word.strip())
        number = int(found[0]) if found else -1
        if number in numbers:
            return []
        if number < 0:
            break
        numbers.append(number)
    return _until_wrong(numbers, num_installed)


def _until_wrong(numbers: list[int], num_installed: int) -> list[int]:
    wrong = (place for place, number in enumerate(numbers) if number >= num_installed)
    return numbers[: next(wrong, None)]


def _prefixed(chosen: str, prefix: str) -> list[str]:
    words: list[str] = []
    for word in chosen.split(","):
        if word in words:
            return []
        if not word.startswith(prefix):
            break
        words.append(word)
    return words


def _by_uuid(words: Sequence[str], installed: Sequence[Gpu]) -> list[int]:
    numbers: list[int] = []
    for word in words:
        meant = [number for number, gpu in enumerate(installed) if gpu.uuid.startswith(word)]
        if len(meant) != 1:
            break
        if meant[0] in numbers:
            return []
        numbers.append(meant[0])
    return numbers
