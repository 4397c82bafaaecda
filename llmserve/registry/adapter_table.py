"""A model's adapters: `[[adapters]]` in `model.toml`, and the folders that are there by themselves.
Only found here; whether one can be served shows when it is loaded."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Final

from loguru import logger
from pydantic import AfterValidator, BaseModel, Field, model_validator

from llmserve.domain import AdapterSpec
from llmserve.registry.output_table import STRICT

HUB_ID: Final = r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?"
"""`org/name`, or `name` alone; neither part can lead out of a folder."""

ADAPTERS: Final = "adapters"
"""The folder of a model in which each folder is an adapter."""

LATEST: Final = "latest"
"""The tag that Ollama's clients add to a name without one; it means the name itself."""

MOST_CHARACTERS: Final = 128

Name = Annotated[str, Field(min_length=1, max_length=128, pattern=r"^[^\s\x00-\x1f]+$")]


def checked_adapter_name(name: str) -> str:
    """The name, if an adapter can have it.

    Raises:
        ValueError: it cannot; says why.
    """
    if name == LATEST:
        raise ValueError(f"{name!r} is Ollama's tag for the base itself; take another name")
    part = r"[A-Za-z0-9][\w.-]*"
    if len(name) > MOST_CHARACTERS or re.fullmatch(rf"{part}(/{part})*", name) is None:
        raise ValueError(
            f"{name[:100]!r} is no name for an adapter: it begins with a letter or a digit, and "
            f"has letters, digits and any of ._-/ after it, {MOST_CHARACTERS} at most"
        )
    return name


class AdapterTable(BaseModel):
    """`[[adapters]]`: an adapter elsewhere, or names for one in the model's `adapters`."""

    model_config = STRICT

    name: Annotated[str, AfterValidator(checked_adapter_name)]
    path: str | None = None
    hub_id: Annotated[str, Field(pattern=rf"^{HUB_ID}$")] | None = None
    revision: str | None = None
    aliases: list[Name] = []

    @model_validator(mode="after")
    def _one_source(self) -> AdapterTable:
        if self.path is not None and self.hub_id is not None:
            raise ValueError("path and hub_id exclude each other; keep one")
        if self.revision is not None and self.hub_id is None:
            raise ValueError("revision needs a hub_id, and there is none")
        return self

    def spec(self, folder: Path) -> AdapterSpec:
        """The adapter of the model in this folder."""
        path = folder / (f"{ADAPTERS}/{self.name}" if self.path is None else self.path)
        return AdapterSpec(
            name=self.name,
            path=path.resolve() if self.hub_id is None else None,
            hub_id=self.hub_id,
            revision=self.revision,
            aliases=tuple(self.aliases),
        )


def adapters_of(folder: Path, tables: Sequence[AdapterTable] = ()) -> tuple[AdapterSpec, ...]:
    """Those of the tables, then the folders that no table names, sorted. Folders with names that
    no adapter can have are logged, and left out."""
    declared = [table.spec(folder) for table in tables]
    known = {spec.name for spec in declared}
    found = [
        AdapterSpec(path.name, path=path.resolve())
        for path in adapter_folders(folder)
        if path.name not in known and _has_name(path)
    ]
    return (*declared, *found)


def adapter_folders(folder: Path) -> list[Path]:
    """The folders in a model's `adapters`, sorted; hidden ones are none."""
    try:
        return sorted(
            path
            for path in (folder / ADAPTERS).iterdir()
            if not path.name.startswith(".") and path.is_dir()
        )
    except OSError:  # there is none, or this user may not read it
        return []


def _has_name(path: Path) -> bool:
    try:
        checked_adapter_name(path.name)
    except ValueError as error:
        logger.warning("the folder {} is left out: {}", path, error)
        return False
    return True
