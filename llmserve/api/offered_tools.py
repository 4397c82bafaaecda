"""The name of a tool, as a field of a body."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from llmserve.domain.offered_tools import MAX_NAME, NAME_PATTERN

FunctionName = Annotated[str, Field(min_length=1, max_length=MAX_NAME, pattern=NAME_PATTERN)]
