"""Why a JSON schema is not served."""

from __future__ import annotations


class SchemaRefused(ValueError):
    """This schema cannot be served; the text begins with the pointer of what is at fault."""

    def __init__(self, pointer: str, why: str) -> None:
        super().__init__(f"{pointer}: {why}")
        self.pointer = pointer


class Malformed(SchemaRefused):
    """It is no JSON schema."""
