"""GET, DELETE and cancel of stored responses, and the list of their input."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import orjson
from fastapi import APIRouter, Query, Response

from llmserve.api.container import TheCaller, TheContainer, identify
from llmserve.api.edge.json import JSON
from llmserve.api.edge.route import keyed_route
from llmserve.api.error_shape import openai_error
from llmserve.api.responses.resource import error_body
from llmserve.api.responses.stored_items import off
from llmserve.api.validation import MAX_SHOWN
from llmserve.bootstrap import Container
from llmserve.domain import Caller
from llmserve.errors import InvalidRequest, ResponseNotFound, WorkerGone
from llmserve.storage.response_store import ResponseStore
from llmserve.storage.stored import Stored

router = APIRouter(
    prefix="/v1/responses/{response_id}",
    route_class=keyed_route(identify, openai_error),
    tags=["openai"],
)


@router.get("", response_class=Response)
async def retrieve(
    response_id: str,
    container: TheContainer,
    caller: TheCaller,
    stream: Annotated[bool, Query()] = False,
    starting_after: Annotated[int | None, Query()] = None,
) -> Response:
    """A stored response, or how far one in the background is."""
    if stream or starting_after is not None:
        raise InvalidRequest(
            "a stored response is not streamed again; leave `stream` and `starting_after` out",
            param="stream" if stream else "starting_after",
        )
    stored = await _find(response_id, container, caller)
    return _as_it_is(stored.response)


@router.delete("", response_class=Response)
async def delete(response_id: str, container: TheContainer, caller: TheCaller) -> Response:
    """Forget a response; one in the background ends."""
    store = _store(container)
    if not await store.delete(caller.name, response_id):
        raise _not_found(response_id)
    store.background.cancel(response_id)
    return JSON({"id": response_id, "object": "response", "deleted": True})


@router.post("/cancel", response_class=Response)
async def cancel(response_id: str, container: TheContainer, caller: TheCaller) -> Response:
    """End a response in the background; one that has ended stays as it is."""
    stored = await _find(response_id, container, caller)
    response = orjson.loads(stored.response)
    if not response["background"]:
        raise InvalidRequest(
            "only a response with `background: true` can be cancelled; hang up to end another",
            param="response_id",
        )
    if not stored.is_running:
        return _as_it_is(stored.response)
    store = _store(container)
    response["status"] = "cancelled"
    if not await store.update(response_id, "cancelled", orjson.dumps(response)):
        return _as_it_is((await _find(response_id, container, caller)).response)
    store.background.cancel(response_id)
    return JSON(response)


@router.get("/input_items", response_class=Response)
async def input_items(
    response_id: str,
    container: TheContainer,
    caller: TheCaller,
    limit: Annotated[int, Query(ge=1, le=100)] = 20,
    order: Annotated[Literal["asc", "desc"], Query()] = "desc",
    after: Annotated[str | None, Query(max_length=256)] = None,
) -> Response:
    """What a response was made from, without the input of earlier responses."""
    stored = await _find(response_id, container, caller)
    items: list[dict[str, Any]] = orjson.loads(stored.items)
    if order == "desc":
        items.reverse()
    if after is not None:
        ids = [item["id"] for item in items]
        if after not in ids:
            raise InvalidRequest(
                f"item {after[:MAX_SHOWN]!r} is not in the input of this response", param="after"
            )
        items = items[ids.index(after) + 1 :]
    shown = items[:limit]
    return JSON(
        {
            "object": "list",
            "data": shown,
            "first_id": shown[0]["id"] if shown else None,
            "last_id": shown[-1]["id"] if shown else None,
            "has_more": len(items) > limit,
        }
    )


def _store(container: Container) -> ResponseStore:
    if container.responses is None:
        raise ResponseNotFound(off("a response's id"))
    return container.responses


async def _find(response_id: str, container: Container, caller: Caller) -> Stored:
    """The caller's response. One whose worker ended meanwhile has failed."""
    store = _store(container)
    stored = await store.find(caller.name, response_id)
    if stored is not None and await store.is_orphan(stored):
        error = WorkerGone("the worker that generated the response ended before it was complete")
        response = orjson.loads(stored.response) | {"status": "failed", "error": error_body(error)}
        await store.update(response_id, "failed", orjson.dumps(response))
        stored = await store.find(caller.name, response_id)
    if stored is None:
        raise _not_found(response_id)
    return stored


def _not_found(response_id: str) -> ResponseNotFound:
    return ResponseNotFound(
        f"there is no response {response_id[:MAX_SHOWN]!r} of this key: it was deleted, was not "
        "used for too long, or was not stored",
        param="response_id",
    )


def _as_it_is(response: bytes) -> Response:
    return Response(response, media_type="application/json")
