"""/v1/files: what batches read and write."""

from __future__ import annotations

import asyncio
import time
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query, Request, Response
from fastapi.responses import FileResponse
from pydantic import Field, ValidationError

from llmserve.api.container import TheCaller, TheContainer, identify
from llmserve.api.edge.json import JSON
from llmserve.api.edge.route import keyed_route
from llmserve.api.error_shape import openai_error
from llmserve.api.fields import Fields
from llmserve.api.ignored import report_ignored, tell_ignored_header
from llmserve.api.ndjson import NDJSON
from llmserve.api.openai.expires_after import ExpiresAfter
from llmserve.api.openai.upload import Upload
from llmserve.api.stored_jobs import file_of, jobs_of
from llmserve.api.validation import invalid_request
from llmserve.errors import Conflict, FileNotThere, StoreFailed
from llmserve.jobs.batch_file import BatchFile, Purpose
from llmserve.jobs.jobs import new_id
from llmserve.jobs.queue import Page

WRITING_SECONDS = 86_400.0
"""A file whose upload did not end by then is deleted: its worker has ended."""

FORM = {
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "required": ["file", "purpose"],
                    "properties": {
                        "file": {"type": "string", "format": "binary"},
                        "purpose": {"type": "string", "enum": ["batch"]},
                    },
                }
            }
        },
    }
}

router = APIRouter(
    prefix="/v1/files",
    route_class=keyed_route(identify, openai_error, is_upload=True),
    tags=["batches"],
)


class FileForm(Fields):
    """What comes beside the file."""

    purpose: Literal["batch"] = Field(description="Files are for batches.")
    expires_after: ExpiresAfter | None = Field(None, description="When it is to be deleted.")


@router.post("", response_class=Response, openapi_extra=FORM)
async def upload(request: Request, container: TheContainer, caller: TheCaller) -> Response:
    """Keep a file of requests for a batch; it is written to disk as it comes."""
    jobs = jobs_of(container, "POST /v1/files")
    now = time.time()
    file = BatchFile(
        id=new_id("file-"),
        caller=caller.name,
        filename="",
        purpose=Purpose.BATCH,
        size=_most_bytes(request, jobs.rules.max_upload_bytes),
        created_at=now,
        expires_at=now + WRITING_SECONDS,
    )
    try:
        async with jobs.new_file(file) as content:
            form = Upload(content)
            await form.read(request)
            try:
                asked = FileForm.model_validate(form.nested())
            except ValidationError as error:
                raise invalid_request(error.errors()) from None
            report_ignored(asked, request, container, caller)
        tell_ignored_header("Idempotency-Key", request, container, caller)
    except OSError as error:
        raise StoreFailed(f"the file cannot be kept now: {error.strerror}") from error
    kept_for = jobs.rules.keep_seconds
    if asked.expires_after is not None:
        kept_for = min(kept_for, asked.expires_after.seconds)
    whole = BatchFile(
        id=file.id,
        caller=file.caller,
        filename=form.filename or "",
        purpose=file.purpose,
        size=form.size,
        created_at=now,
        expires_at=now + kept_for,
        is_complete=True,
    )
    await jobs.queue.put_file(whole)
    return JSON(_resource(whole))


@router.get("", response_class=Response)
async def list_files(
    container: TheContainer,
    caller: TheCaller,
    purpose: Annotated[Purpose | None, Query()] = None,
    limit: Annotated[int, Query(ge=1, le=10_000)] = 10_000,
    order: Annotated[Literal["asc", "desc"], Query()] = "desc",
    after: Annotated[str | None, Query(max_length=256)] = None,
) -> Response:
    """The files of this key, in pages."""
    jobs = jobs_of(container, "GET /v1/files")
    shown = {Purpose.BATCH, Purpose.OUTPUT}
    purposes = sorted(shown if purpose is None else shown & {purpose})
    page = Page(limit, after, is_ascending=order == "asc")
    found = await jobs.queue.list_files(caller.name, purposes, page)
    data = [_resource(file) for file in found[:limit]]
    return JSON(
        {
            "object": "list",
            "data": data,
            "first_id": data[0]["id"] if data else None,
            "last_id": data[-1]["id"] if data else None,
            "has_more": len(found) > limit,
        }
    )


@router.get("/{file_id}", response_class=Response)
async def retrieve(file_id: str, container: TheContainer, caller: TheCaller) -> Response:
    """What is known of a file."""
    jobs = jobs_of(container, "a file's id", "file_id")
    return JSON(_resource(await file_of(jobs, caller, file_id)))


@router.get("/{file_id}/content", response_class=Response)
async def content(file_id: str, container: TheContainer, caller: TheCaller) -> Response:
    """What a file contains, sent as it is read."""
    jobs = jobs_of(container, "a file's id", "file_id")
    file = await file_of(jobs, caller, file_id)
    path = jobs.contents.path(file.id)
    if not await asyncio.to_thread(path.is_file):
        raise FileNotThere(f"the content of file {file_id!r} is gone", param="file_id")
    return FileResponse(path, media_type=NDJSON)


@router.delete("/{file_id}", response_class=Response)
async def delete(file_id: str, container: TheContainer, caller: TheCaller) -> Response:
    """Delete a file that no open batch reads."""
    jobs = jobs_of(container, "a file's id", "file_id")
    file = await file_of(jobs, caller, file_id)
    if await jobs.queue.uses_file(caller.name, file.id):
        raise Conflict("an open batch reads this file; wait until it ends, or cancel it")
    await jobs.keeper.delete_file(file.id)
    return JSON({"id": file.id, "object": "file", "deleted": True})


def _most_bytes(request: Request, most: int) -> int:
    """What the file may have: less than the whole body, if that says how long it is."""
    declared = request.headers.get("content-length", "")
    is_plain = "content-encoding" not in request.headers
    return min(int(declared), most) if is_plain and declared.isdecimal() else most


def _resource(file: BatchFile) -> dict[str, Any]:
    return {
        "id": file.id,
        "object": "file",
        "bytes": file.size,
        "created_at": int(file.created_at),
        "expires_at": int(file.expires_at),
        "filename": file.filename,
        "purpose": file.purpose,
        "status": "processed",
        "status_details": None,
    }
