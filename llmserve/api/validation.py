"""What is wrong with a body or a query, in words that a client understands."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, Final

from llmserve.api.fields import NOT_A_FIELD, NOT_TEXT, REFUSED
from llmserve.errors import InvalidRequest

MAX_SHOWN: Final = 200
"""Characters of a client's own words that an error repeats."""

TRIED_TYPE: Final = re.compile(r"[\[-]")
"""pydantic names the branches of a union like `list[int]` and `constrained-str`."""


def invalid_request(errors: Sequence[Mapping[str, Any]], sent: Any = None) -> InvalidRequest:
    """The first of pydantic's errors, as one of ours; `param` is the field at fault. `sent` is the
    whole body, which names the model."""
    first = errors[0]
    if first["type"] == "json_invalid":
        return InvalidRequest(f"the body is not valid JSON: {first['ctx']['error']}")
    if first["type"] == REFUSED:
        param = _param((*first["loc"], first["ctx"]["field"]), is_extra=True)
        return InvalidRequest(f"{param!r} {first['msg']}", param=param)
    if first["type"] == NOT_TEXT:
        return _not_text(first, sent)
    if first["type"] == "extra_forbidden":
        param = _param(first["loc"], is_extra=True)
        return InvalidRequest(f"{param!r} {NOT_A_FIELD}", param=param)
    param = _param(first["loc"], is_extra=False)
    message = str(first["msg"]).removeprefix("Value error, ")[:MAX_SHOWN]
    if param is not None:
        return InvalidRequest(f"{param}: {message}", param=param)
    if first["type"] == "value_error":  # about the body as a whole; the message names its fields
        return InvalidRequest(message)
    return InvalidRequest(
        "the body must be a JSON object, sent with `Content-Type: application/json`"
    )


def _not_text(error: Mapping[str, Any], sent: Any) -> InvalidRequest:
    field = error["ctx"].get("field")
    at = error["loc"] if field is None else (*error["loc"], field)
    param = _param(at, is_extra=field is not None)
    model = sent.get("model") if isinstance(sent, dict) else None
    named = f"model {model[:MAX_SHOWN]!r}" if isinstance(model, str) else "the model"
    return InvalidRequest(
        f"{param}: {error['ctx']['what']} cannot be read: {named} is served for text only",
        param=param,
    )


def _param(location: Sequence[str | int], *, is_extra: bool) -> str | None:
    """The field's path, without what pydantic adds: where it looked and which type it tried.

    The last part of an unknown field is the client's own word and stays as it is.
    """
    parts = [str(part) for part in location]
    if parts and parts[0] in {"body", "query"} and not (is_extra and len(parts) == 1):
        parts = parts[1:]
    kept = [
        part
        for i, part in enumerate(parts)
        if (i == 0 and not part.startswith("["))
        or (is_extra and i == len(parts) - 1)
        or not (part == "str" or TRIED_TYPE.search(part))
    ]
    return ".".join(kept)[:MAX_SHOWN] or None
