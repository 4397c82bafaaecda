"""`[output]` in `model.toml`: how a model's answers are read."""

from __future__ import annotations

import difflib
from typing import Annotated, Any, Final

from pydantic import AfterValidator, BaseModel, ConfigDict, Discriminator, Field, Tag

STRICT: Final = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)


class _Strict(BaseModel):
    model_config = STRICT


def _known_syntax(name: str) -> str:
    # Only here: the tables of patterns take a moment to import, and few manifests name one.
    from llmserve.text.output.families import FAMILIES

    if name not in FAMILIES:
        near = difflib.get_close_matches(name, FAMILIES, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"there are {', '.join(FAMILIES)}"
        raise ValueError(f"there is no syntax {name!r}; {hint}")
    return name


class FieldTable(_Strict):
    """`[output.syntax.fields.NAME]`: as in transformers' `response_template`."""

    open: str | list[str] | None = None
    open_pattern: str | None = None
    close: str | list[str] | None = None
    close_pattern: str | None = None
    content: str = "text"
    content_args: dict[str, Any] = {}
    repeats: bool = False
    join: str | None = None
    optional: bool = True
    transform: Any = None
    transform_each: bool = False


SyntaxName = Annotated[str, AfterValidator(_known_syntax)]


class SyntaxTable(_Strict):
    """`[output.syntax]`: a `response_template`; its patterns are checked when the model loads."""

    version: int | None = None
    defaults: dict[str, Any] | None = None
    start_anchor: str | list[str] | None = None
    start_anchor_pattern: str | None = None
    fields: Annotated[dict[str, FieldTable], Field(min_length=1)]


Syntax = Annotated[
    Annotated[SyntaxName, Tag("name")] | Annotated[SyntaxTable, Tag("table")],
    Discriminator(lambda value: "name" if isinstance(value, str) else "table"),
]


class OutputTable(_Strict):
    """`[output]`: how the model's answers are read."""

    syntax: Syntax | None = None

    def text(self) -> str | None:
        """The name, or the table as JSON text."""
        if isinstance(self.syntax, SyntaxTable):
            return self.syntax.model_dump_json(exclude_unset=True)
        return self.syntax
