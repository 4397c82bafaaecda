"""/v1/batches: files of requests that are answered when there is time."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterator
from typing import Annotated, Any, Final

import orjson
from fastapi import APIRouter, Query, Request, Response
from pydantic import Field

from llmserve.api.container import TheCaller, TheContainer, identify
from llmserve.api.edge.json import JSON
from llmserve.api.edge.route import keyed_route
from llmserve.api.error_shape import openai_error
from llmserve.api.fields import Fields
from llmserve.api.ignored import report_ignored
from llmserve.api.no_op import MetadataText
from llmserve.api.openai.expires_after import ExpiresAfter
from llmserve.api.stored_jobs import batch_of, file_of, jobs_of
from llmserve.errors import Conflict, InvalidRequest
from llmserve.jobs.batch import Batch, Kind, Status, Webhook
from llmserve.jobs.batch_file import Purpose
from llmserve.jobs.jobs import new_id
from llmserve.jobs.queue import Idempotency, Page

ENDPOINTS: Final = ("/v1/chat/completions", "/v1/completions", "/v1/responses", "/v1/embeddings")
"""The routes that lines may ask."""
MAX_IDEMPOTENCY_KEY: Final = 255
CAN_BE_CANCELLED: Final = (Status.VALIDATING, Status.IN_PROGRESS)

router = APIRouter(
    prefix="/v1/batches", route_class=keyed_route(identify, openai_error), tags=["batches"]
)


class BatchBody(Fields):
    """POST /v1/batches."""

    input_file_id: str = Field(max_length=256, description="An uploaded file of requests.")
    endpoint: str = Field(max_length=256, description="The route of all of them.")
    completion_window: str = Field(
        max_length=16, description='How long they may take: "24h", or another time.'
    )
    metadata: dict[Annotated[str, Field(max_length=64)], MetadataText] | None = Field(
        None, max_length=16, description="The client's own labels."
    )
    output_expires_after: ExpiresAfter | None = Field(
        None, description="When the output files are to be deleted."
    )
    webhook_url: str | None = Field(
        None, max_length=2048, description="Where to tell that the batch ended (our own field)."
    )


@router.post("", response_class=Response)
async def create(
    body: BatchBody, request: Request, container: TheContainer, caller: TheCaller
) -> Response:
    """Run the requests of a file in the background."""
    jobs = jobs_of(container, "POST /v1/batches")
    report_ignored(body, request, container, caller)
    seconds = jobs.rules.window_seconds(body.completion_window)
    if body.endpoint not in ENDPOINTS:
        raise InvalidRequest(f"endpoint must be one of {', '.join(ENDPOINTS)}", param="endpoint")
    if body.webhook_url is not None:
        jobs.webhooks.check(body.webhook_url)
    file = await file_of(jobs, caller, body.input_file_id)
    if file.purpose is not Purpose.BATCH:
        raise InvalidRequest(
            "the input file must have the purpose `batch`; upload it so", param="input_file_id"
        )
    now = time.time()
    expiry = body.output_expires_after
    batch = Batch(
        id=new_id("batch_"),
        kind=Kind.BATCH,
        caller=caller.name,
        endpoint=body.endpoint,
        input_file_id=file.id,
        window=body.completion_window,
        created_at=now,
        expires_at=now + seconds,
        metadata=body.metadata,
        output_seconds=None if expiry is None else float(expiry.seconds),
        webhook=None if body.webhook_url is None else Webhook(body.webhook_url),
    )
    return JSON(resource(await jobs.create(batch, _idempotency(request, body))))


@router.get("", response_class=Response)
async def list_batches(
    container: TheContainer,
    caller: TheCaller,
    limit: Annotated[int, Query(ge=1, le=100)] = 20,
    after: Annotated[str | None, Query(max_length=256)] = None,
) -> Response:
    """The batches of this key, the newest first, in pages."""
    jobs = jobs_of(container, "GET /v1/batches")
    found = await jobs.queue.list_batches(caller.name, Page(limit, after))
    data = [resource(batch) for batch in found[:limit]]
    return JSON(
        {
            "object": "list",
            "data": data,
            "first_id": data[0]["id"] if data else None,
            "last_id": data[-1]["id"] if data else None,
            "has_more": len(found) > limit,
        }
    )


@router.get("/{batch_id}", response_class=Response)
async def retrieve(batch_id: str, container: TheContainer, caller: TheCaller) -> Response:
    """A batch, and how far it is."""
    jobs = jobs_of(container, "a batch's id", "batch_id")
    return JSON(resource(await batch_of(jobs, caller, batch_id, Kind.BATCH)))


@router.post("/{batch_id}/cancel", response_class=Response)
async def cancel(batch_id: str, container: TheContainer, caller: TheCaller) -> Response:
    """End a batch; what it has answered is in its output."""
    jobs = jobs_of(container, "a batch's id", "batch_id")
    batch = await batch_of(jobs, caller, batch_id, Kind.BATCH)
    while batch.status in CAN_BE_CANCELLED:  # it may go on meanwhile, twice at most
        await jobs.cancel(batch)
        batch = await batch_of(jobs, caller, batch_id, Kind.BATCH)
    if batch.outcome is not Status.CANCELLED:
        raise Conflict(f"a batch that is {batch.status} cannot be cancelled")
    return JSON(resource(batch))


def resource(batch: Batch) -> dict[str, Any]:
    """OpenAI's shape."""
    counts = batch.counts
    return {
        "id": batch.id,
        "object": "batch",
        "endpoint": batch.endpoint,
        "errors": {"object": "list", "data": list(batch.errors)} if batch.errors else None,
        "input_file_id": batch.input_file_id,
        "completion_window": batch.window,
        "status": batch.status,
        "output_file_id": batch.output_file_id,
        "error_file_id": batch.error_file_id,
        "created_at": int(batch.created_at),
        "expires_at": int(batch.expires_at),
        **dict(_times(batch)),
        "request_counts": {
            "total": counts.total,
            "completed": counts.completed,
            "failed": counts.failed,
        },
        "metadata": batch.metadata,
    }


def _times(batch: Batch) -> Iterator[tuple[str, int | None]]:
    """When it reached each state, or null."""
    for status in Status:
        if status is not Status.VALIDATING:
            at = batch.times.get(f"{status}_at")
            yield f"{status}_at", None if at is None else int(at)


def _idempotency(request: Request, body: BatchBody) -> Idempotency | None:
    key = request.headers.get("idempotency-key")
    if key is None:
        return None
    if not 0 < len(key) <= MAX_IDEMPOTENCY_KEY:
        raise InvalidRequest(
            f"Idempotency-Key must have 1 to {MAX_IDEMPOTENCY_KEY} characters",
            param="Idempotency-Key",
        )
    asked = orjson.dumps(body.model_dump(), option=orjson.OPT_SORT_KEYS)
    return Idempotency(key, hashlib.sha256(asked).hexdigest())
