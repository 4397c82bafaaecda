"""The folder that a random model is written to, and the marker that says it is one of ours."""

import json
from pathlib import Path
from typing import Any

MARKER = "random_model.json"

_WEIGHTS = ("model.safetensors.index.json", "model*.safetensors")


class FolderOccupied(FileExistsError):
    """The folder holds files that this script did not write."""


def claim(out: Path, facts: dict[str, Any], *, force: bool) -> None:
    """Create the folder, write our marker and remove older weights.

    Old shards must go: a stale `model.safetensors` would be loaded instead of a new index.

    Raises:
        FolderOccupied: if the folder has content, none of it our marker, and `force` is off.
    """
    if out.exists() and not out.is_dir():
        raise FolderOccupied(f"{out} is a file; name a folder")
    is_ours = (out / MARKER).is_file()
    if out.is_dir() and any(out.iterdir()) and not (is_ours or force):
        raise FolderOccupied(
            f"{out} is not empty and holds no random model; choose another folder or add --force"
        )
    out.mkdir(parents=True, exist_ok=True)
    for pattern in _WEIGHTS:
        for path in out.glob(pattern):
            path.unlink()
    (out / MARKER).write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8")


def open_to_readers(out: Path) -> None:
    """Let every user read the files: safetensors makes them private to their owner."""
    for path in out.iterdir():
        path.chmod(path.stat().st_mode | 0o444)


def size_bytes(out: Path) -> int:
    """Add up the sizes of the folder's files."""
    return sum(path.stat().st_size for path in out.iterdir() if path.is_file())
