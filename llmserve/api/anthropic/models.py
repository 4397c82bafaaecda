"""GET /v1/models and /v1/models/{model}, for clients that say which version of Anthropic's API they
speak."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Any, Final

from fastapi import APIRouter, Query
from starlette.datastructures import Headers
from starlette.routing import Match
from starlette.types import Scope

from llmserve.api.anthropic.access import identify_by_key
from llmserve.api.anthropic.error import anthropic_error
from llmserve.api.anthropic.headers import anthropic_headers
from llmserve.api.container import TheCaller, TheContainer
from llmserve.api.edge.route import keyed_route
from llmserve.errors import InvalidRequest, ModelNotFound
from llmserve.registry.resolved import Resolved
from llmserve.registry.served import ModelStatus

VERSION: Final = "anthropic-version"
DEFAULT_LIMIT: Final = 20
MAX_LIMIT: Final = 1000
ACTIVE: Final = "active"

_Keyed: type[Any] = keyed_route(identify_by_key, anthropic_error, anthropic_headers)


class VersionedRoute(_Keyed):  # type: ignore[misc]  # the base is made when this is imported
    """A route that is there only for requests with the header; others go on to OpenAI's."""

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        """Whether this route answers."""
        if scope["type"] == "http" and VERSION in Headers(scope=scope):
            match, found = super().matches(scope)
            return match, found
        return Match.NONE, {}


# Not in the schema, which has OpenAI's routes of the same paths.
router = APIRouter(prefix="/v1", route_class=VersionedRoute, include_in_schema=False)


@router.head("/models")
@router.get("/models")
async def list_models(
    container: TheContainer,
    caller: TheCaller,
    limit: Annotated[int, Query(ge=1, le=MAX_LIMIT)] = DEFAULT_LIMIT,
    after_id: str | None = None,
    before_id: str | None = None,
    lifecycle: Annotated[list[str] | None, Query(alias="lifecycle[]")] = None,
) -> dict[str, Any]:
    """The served models that answer messages and that the caller may use, page by page."""
    models = [
        _body(found)
        for found in container.registry.everything
        if found.model.generates and caller.may_use(found.permissions)
    ]
    if lifecycle is not None and ACTIVE not in lifecycle:
        models = []
    ids = [model["id"] for model in models]
    if before_id is not None:
        end = _place(ids, before_id, "before_id")
        begin = max(0, end - limit)
        has_more = begin > 0
    else:
        begin = 0 if after_id is None else _place(ids, after_id, "after_id") + 1
        end = begin + limit
        has_more = end < len(ids)
    page = models[begin:end]
    return {
        "data": page,
        "has_more": has_more,
        "first_id": page[0]["id"] if page else None,
        "last_id": page[-1]["id"] if page else None,
    }


@router.head("/models/{model:path}")
@router.get("/models/{model:path}")
async def retrieve_model(model: str, container: TheContainer, caller: TheCaller) -> dict[str, Any]:
    """One model, by name or alias."""
    found = container.registry.resolve(model)
    if not caller.may_use(found.permissions):
        raise ModelNotFound(f"model {model[:100]!r} is not served to this key", param="model")
    return _body(found)


def _place(ids: list[str], model_id: str, param: str) -> int:
    if model_id not in ids:
        raise InvalidRequest(f"{param}: no model {model_id[:100]!r} is served", param=param)
    return ids.index(model_id)


def _body(found: Resolved) -> dict[str, Any]:
    is_ready = found.model.status is ModelStatus.READY
    longest = found.model.loaded_engine.info.max_context if is_ready else None
    return {
        "type": "model",
        "id": found.name,
        "display_name": found.name,
        "created_at": datetime.fromtimestamp(found.created, UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "lifecycle": ACTIVE,
        "max_input_tokens": longest,
        "max_tokens": longest,
    }
