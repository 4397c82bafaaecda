"""How a model on the hub is written: `org/name`, or `org/name/file.gguf` for one file of it."""

from __future__ import annotations

import re

from llmserve.engines.weights.checkpoint import GGUF_FILE
from llmserve.registry.adapter_table import HUB_ID


def hub_source(argument: str) -> tuple[str, str | None] | None:
    """The repository that an argument names and the file of weights in it, if it names one; `None`
    where it is no hub id."""
    repository, _, file = argument.rpartition("/")
    if re.fullmatch(r"[^/]+/[^/]+", repository) and re.fullmatch(GGUF_FILE, file):
        return (repository, file) if re.fullmatch(HUB_ID, repository) else None
    return (argument, None) if "/" in argument and re.fullmatch(HUB_ID, argument) else None


def folder_name(hub_id: str, gguf_file: str | None) -> str:
    """The folder that it is downloaded to: repositories have several files of one model."""
    return hub_id.rpartition("/")[2] if gguf_file is None else gguf_file.removesuffix(".gguf")
