"""What a worker says about a command, and what it must look like when it comes from another one."""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from llmserve.errors import LLMServeError
from llmserve.operations.command import Kind

Reply = dict[str, Any]
"""`{"event": "progress", …}` any number of times, then one `done` or `error`."""


class _Part(BaseModel):
    """While workers are replaced one by one, one of another version may say more."""

    model_config = ConfigDict(extra="allow", strict=True)


class _Error(_Part):
    message: str
    type: str
    param: str | None
    code: str | None
    status: Annotated[int, Field(ge=400, le=599)]


class _Failed(_Part):
    event: Literal["error"]
    error: _Error


class _Progress(_Part):
    event: Literal["progress"]
    name: str
    status: str
    stage: str | None = None
    fraction: float | None = None


class _Model(_Part):
    name: str
    status: str
    running: int
    waiting: int
    memory_bytes: int | None
    error: str | None = None


class _Status(_Part):
    worker: int
    pid: int
    state: str
    device: str
    uptime_seconds: float
    rss_bytes: int | None
    connections: int | None
    models: list[_Model]


class _StatusTold(_Part):
    event: Literal["done"]
    status: _Status


class _Done(_Part):
    event: Literal["done"]
    model: str
    seconds: float
    warning: str | None = None


def failure(error: LLMServeError) -> Reply:
    """The last message about a command that failed."""
    return {"event": "error", "error": error.details() | {"status": error.status}}


class NotAReply(ValueError):
    """Another worker said what no worker says."""


def checked(told: object, kind: Kind) -> Reply:
    """What another worker answered to a command of this kind, when it is a reply.

    Raises:
        NotAReply: it is none; names the field.
    """
    try:
        (_STATUS if kind is Kind.STATUS else _COMMAND).validate_python(told)
    except ValidationError as error:
        problem = error.errors(include_url=False, include_input=False)[0]
        place = ".".join(map(str, problem["loc"])) or "all of it"
        raise NotAReply(f"it answered what no worker answers ({place}: {problem['msg']})") from None
    assert isinstance(told, dict), "validated"
    return told


_STATUS: Final = TypeAdapter[object](Annotated[_StatusTold | _Failed, Field(discriminator="event")])
_COMMAND: Final = TypeAdapter[object](
    Annotated[_Progress | _Done | _Failed, Field(discriminator="event")]
)
