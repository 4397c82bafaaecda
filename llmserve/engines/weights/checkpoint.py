"""Decides which files are a model's weights, for folders and repositories.

Knows only file names and the content of an index: no torch, no network. Other files beside the
weights are not read: adapters, optimizer states, `consolidated.*`, `original/`, other formats.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, Final

SAFETENSORS: Final = ("model.safetensors.index.json", "model.safetensors")
"""If there are any, nothing is unpickled."""
PICKLED: Final = ("pytorch_model.bin", "pytorch_model.bin.index.json")
"""In the order in which transformers prefers them, which cannot be changed here."""

GGUF_SUFFIX: Final = ".gguf"
GGUF_FILE: Final = r"[A-Za-z0-9][\w.-]*\.gguf"
"""A name, as settings may have it."""

INDEX: Final = ".index.json"
WEIGHT_SUFFIXES: Final = frozenset(
    {
        ".safetensors", ".bin", ".pth", ".pt", ".ckpt", ".onnx", ".onnx_data", ".gguf", ".ggml",
        ".msgpack", ".h5", ".ot", ".npz", ".tflite", ".mlmodel", ".distcp",
    }
)  # fmt: skip

_PART: Final = re.compile(r"-\d{5}-of-(\d{5})\.gguf$")
_PROJECTOR: Final = re.compile(r"mmproj", re.IGNORECASE)
"""What makes tokens of images; beside a model, and no model itself."""
_STRAY: Final = re.compile(r"consolidated|adapter|optimizer|scheduler|training_args|rng_state")


class NoCheckpoint(Exception):
    """There are no complete weights; the message says what is missing."""


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A model's weights.

    Attributes:
        entry: the file to open first: an index, or the weights themselves.
        files: the weights, as paths relative to the entry.
    """

    entry: str
    files: tuple[str, ...]

    @property
    def is_pickled(self) -> bool:
        """Whether reading it means unpickling."""
        return self.entry in PICKLED

    @property
    def gguf_file(self) -> str | None:
        """The file, where config and tokenizer are in it, too."""
        return self.entry if self.entry.endswith(GGUF_SUFFIX) else None

    @property
    def names(self) -> frozenset[str]:
        """Every file that belongs to it, an index included."""
        return frozenset((self.entry, *self.files))


def find_checkpoint(
    names: Collection[str], read: Callable[[str], str], gguf_file: str | None = None
) -> Checkpoint:
    """The weights among files with these names; `read` returns the text of one.

    A safetensors index takes precedence, unless one of its shards is missing and there is a single
    file. A GGUF file is taken if it is named by `gguf_file`, or if it is all there is.

    Raises:
        NoCheckpoint: there are no weights, or shards are missing; names them.
    """
    if gguf_file is not None:
        return _gguf(gguf_file, names)
    for kind in (SAFETENSORS, PICKLED):
        entries = [entry for entry in (*_declared(names, read, kind), *kind) if entry in names]
        checkpoints = [Checkpoint(entry, _files(entry, read)) for entry in entries]
        whole = [found for found in checkpoints if found.names <= frozenset(names)]
        if whole:
            return whole[0]
        if checkpoints:
            first = checkpoints[0]
            missing = sorted(first.names.difference(names))
            listed = ", ".join(missing[:3]) + (", …" if len(missing) > 3 else "")
            raise NoCheckpoint(
                f"{len(missing)} of the {len(first.files)} files that {first.entry} names are "
                f"missing ({listed}); download the model again"
            )
    found = sorted(n for n in names if n.endswith(GGUF_SUFFIX) and not _PROJECTOR.search(n))
    if len(found) == 1:
        return _gguf(found[0], names)
    if found:
        raise NoCheckpoint(
            f"there are {len(found)} GGUF files ({', '.join(found[:3])}"
            f"{', …' if len(found) > 3 else ''}); name one: as gguf_file in model.toml, or with a "
            "slash after the folder or the hub id"
        )
    raise NoCheckpoint(
        f"there are no weights: neither {SAFETENSORS[1]} nor {PICKLED[0]}, nor the index of either"
        + _unread(names)
    )


def checkpoint_in(folder: Path, gguf_file: str | None = None) -> Checkpoint:
    """The weights in a model's folder.

    Raises:
        NoCheckpoint: as `find_checkpoint`; or an index cannot be read.
    """
    return find_checkpoint(
        files_in(folder), lambda name: (folder / name).read_text(encoding="utf-8"), gguf_file
    )


def files_in(folder: Path) -> list[str]:
    """The files in a folder and, as shards may be there, in its subfolders."""
    found = (*folder.glob("*"), *folder.glob("[!.]*/*"))
    return [path.relative_to(folder).as_posix() for path in found if path.is_file()]


def likely_weights(names: Collection[str]) -> list[str]:
    """The probable weights where there is no complete checkpoint, for an estimate of memory."""
    for suffix in (".safetensors", ".bin"):
        found = [
            name for name in names
            if name.endswith(suffix) and "/" not in name and not _STRAY.match(name)
        ]  # fmt: skip
        if found:
            return found
    return []


def stray_weights(names: Collection[str], needed: Collection[str]) -> frozenset[str]:
    """Files that look like weights or an index, but are not those that are needed."""
    return frozenset(
        name
        for name in names
        if name not in needed
        and (PurePosixPath(name).suffix in WEIGHT_SUFFIXES or name.endswith(INDEX))
    )


def _gguf(name: str, names: Collection[str]) -> Checkpoint:
    if name not in names:
        raise NoCheckpoint(f"there is no file {name}")
    if parts := _PART.search(name):
        raise NoCheckpoint(
            f"{name} is one of {int(parts[1])} parts, which are not read; merge them "
            "(llama-gguf-split --merge)"
        )
    return Checkpoint(name, (name,))


def _declared(
    names: Collection[str], read: Callable[[str], str], kind: tuple[str, ...]
) -> list[str]:
    """The entry that config.json names (`transformers_weights`)."""
    if kind is not SAFETENSORS or "config.json" not in names:
        return []
    try:
        declared = _json("config.json", read).get("transformers_weights")
    except NoCheckpoint:  # loading the config will report it
        return []
    return [declared] if isinstance(declared, str) else []


def _files(entry: str, read: Callable[[str], str]) -> tuple[str, ...]:
    if not entry.endswith(INDEX):
        return (entry,)
    weight_map = _json(entry, read).get("weight_map")
    mapped = weight_map.values() if isinstance(weight_map, dict) else ()
    files = sorted({str(file) for file in mapped})
    if not files or any(file.startswith("/") or ".." in file.split("/") for file in files):
        raise NoCheckpoint(f"{entry} is not an index of files beside it; download the model again")
    return tuple(files)


def _json(name: str, read: Callable[[str], str]) -> dict[str, Any]:
    try:
        content = json.loads(read(name))
    except (OSError, ValueError) as error:
        raise NoCheckpoint(f"{name} cannot be read: {error}") from error
    return content if isinstance(content, dict) else {}


def _unread(names: Collection[str]) -> str:
    """A remark on weights in formats that are not read."""
    others = sorted(name for name in names if PurePosixPath(name).suffix in WEIGHT_SUFFIXES)
    if not others:
        return ""
    return f" ({', '.join(others[:3])}{', …' if len(others) > 3 else ''} are not read)"
