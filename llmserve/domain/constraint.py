"""What the text of an answer must look like."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class ConstraintKind(StrEnum):
    """How `Constraint.source` is to be read."""

    JSON_SCHEMA = "json_schema"
    JSON_OBJECT = "json_object"
    REGEX = "regex"
    CHOICE = "choice"
    GRAMMAR = "grammar"


@dataclass(frozen=True, slots=True)
class Constraint:
    """A language that the answer belongs to, whatever the model would rather say.

    Attributes:
        source: a JSON schema's text, a regular expression, a JSON list of texts, or a context-free
            grammar (Lark, or EBNF as in GBNF); empty for any JSON object.
        param: the field of the request that it comes from, for errors.
    """

    kind: ConstraintKind
    source: str = ""
    param: str = "response_format"
