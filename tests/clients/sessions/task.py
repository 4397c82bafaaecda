"""What every session asks: a tool to call, an answer of a given form, and how both are told."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field

TASK: Final = json.loads(Path(__file__).with_name("task.json").read_text())
QUESTION: Final[str] = TASK["question"]
RESULT: Final[str] = TASK["result"]
WISH: Final[str] = TASK["wish"]
MAX_TOKENS: Final[int] = TASK["max_tokens"]
TOOL: Final[dict[str, Any]] = TASK["tool"]
NAME: Final[str] = TOOL["function"]["name"]

City = Literal["Oslo", "Paris", "Rome"]
Unit = Literal["celsius", "fahrenheit"]

ROOT: Final = sys.argv[1]
URL: Final = ROOT + "/v1"
MODEL: Final = sys.argv[2]


class Stop(BaseModel):
    """A place on the way."""

    model_config = ConfigDict(extra="forbid")

    city: City
    days: int = Field(ge=1, le=9)


class Trip(BaseModel):
    """A journey."""

    model_config = ConfigDict(extra="forbid")

    is_far: bool
    stops: list[Stop] = Field(min_length=1, max_length=3)


class Weather(BaseModel):
    """The arguments of the tool."""

    model_config = ConfigDict(extra="forbid")

    city: City
    unit: Unit


def tell(**report: Any) -> None:
    """Print the session's report, which the test reads."""
    print(json.dumps(report))
