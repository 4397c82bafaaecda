"""A worker's replies to a command, and the check of replies that come from another worker."""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from llmserve.errors import LLMServeError
from llmserve.operations.command import Kind

Reply = dict[str, Any]
"""`{"event": "progress", …}` any number of times, then one `done` or `error`."""


class _Part(BaseModel):
    """Extra fields are allowed: during a rolling restart a worker may be of another version."""

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


class _StatusReply(_Part):
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
    """Another worker's answer is not a valid reply."""


def checked(answer: object, kind: Kind) -> Reply:
    """Another worker's answer to a command of this kind, if it is a valid reply.

    Raises:
        NotAReply: it is not; the error names the field.
    """
    try:
        (_STATUS if kind is Kind.STATUS else _COMMAND).validate_python(answer)
    except ValidationError as error:
        problem = error.errors(include_url=False, include_input=False)[0]
        place = ".".join(map(str, problem["loc"])) or "all of it"
        raise NotAReply(f"its answer is not a valid reply ({place}: {problem['msg']})") from None
    assert isinstance(answer, dict), "validated"
    return answer


_STATUS: Final = TypeAdapter[object](
    Annotated[_StatusReply | _Failed, Field(discriminator="event")]
)
_COMMAND: Final = TypeAdapter[object](
    Annotated[_Progress | _Done | _Failed, Field(discriminator="event")]
)
