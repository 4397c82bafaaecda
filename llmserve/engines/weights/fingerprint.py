"""A short name for a model's files, which changes when an answer might.

Of the weights only samples are read: hashing all of a large model would take minutes.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Final

SAMPLE_BYTES: Final = 1 << 16
SAMPLES: Final = 16
"""Spread over each file, its beginning and its end among them."""

TEXTS: Final = (
    "config.json", "generation_config.json", "model.toml", "tokenizer.json",
    "tokenizer_config.json", "chat_template.jinja",
)  # fmt: skip
"""What decides beside the weights how an answer comes about; not every model has all of them."""


def hash_of_files(folder: Path, weights: Iterable[str]) -> str:
    """64 hexadecimal digits of the model in a folder, whose weights are these files."""
    digest = hashlib.sha256()
    for name in TEXTS:
        path = folder / name
        if path.is_file():
            digest.update(name.encode() + b"\0" + path.read_bytes() + b"\0")
    for name in weights:
        digest.update(name.encode() + b"\0")
        _sample(folder / name, digest)
    return digest.hexdigest()


def fingerprint(files: str, *parts: str) -> str:
    """OpenAI's `system_fingerprint`: of the files' hash, of these parts, and of our own version."""
    text = "\0".join((files, *parts, _own_version()))
    return "fp_" + hashlib.sha256(text.encode()).hexdigest()[:10]


@cache
def _own_version() -> str:
    return version("llmserve")  # reads a file


def _sample(path: Path, digest: hashlib._Hash) -> None:
    size = path.stat().st_size
    digest.update(size.to_bytes(8, "little"))
    last = max(0, size - SAMPLE_BYTES)
    with path.open("rb") as file:
        for number in range(SAMPLES):
            file.seek(last * number // (SAMPLES - 1))
            digest.update(file.read(SAMPLE_BYTES))
