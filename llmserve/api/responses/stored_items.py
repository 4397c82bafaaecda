"""What a request refers to in earlier responses: the conversation so far, and single items."""

from __future__ import annotations

import asyncio
import re
from typing import Final

import orjson

from llmserve.api.responses.input_items import ITEMS, history
from llmserve.api.responses.items import Item, ItemReference
from llmserve.api.responses.prompt_fields import PromptFields
from llmserve.api.responses.resource import PREFIX
from llmserve.errors import InvalidRequest
from llmserve.storage.response_store import ResponseStore

ITEM_ID: Final = re.compile(r"[a-z]+_([0-9a-f]{32})_\w+")
"""It names its response."""


def off(what: str) -> str:
    """Why there is no such thing while nothing is stored."""
    return (
        f"{what} needs stored responses, and this server stores none; its operator turns that on "
        "with the setting `responses_store`"
    )


async def resolve(body: PromptFields, store: ResponseStore | None, caller: str) -> None:
    """Put into the body what it refers to.

    Raises:
        InvalidRequest: there is no such response or item, or nothing is stored.
    """
    refers = any(isinstance(item, ItemReference) for item in body.items)
    if body.previous_response_id is None and not refers:
        return
    if store is None:
        name = "input" if body.previous_response_id is None else "previous_response_id"
        what = "an `item_reference`" if name == "input" else f"`{name}`"
        raise InvalidRequest(
            off(what) + ("; send `store: false` and whole items" if name == "input" else ""),
            param=name,
        )
    before: list[Item] = []
    if body.previous_response_id is not None:
        conversation = await store.conversation(caller, body.previous_response_id)
        if conversation[-1].is_running:
            raise InvalidRequest(
                f"response {body.previous_response_id!r} is still in progress; wait for it",
                param="previous_response_id",
            )
        before = await asyncio.to_thread(history, conversation)
    items = [
        await _referred(item, number, store, caller) if isinstance(item, ItemReference) else item
        for number, item in enumerate(body.items)
    ]
    body.goes_on(before, items)


async def _referred(
    reference: ItemReference, number: int, store: ResponseStore, caller: str
) -> Item:
    named = ITEM_ID.fullmatch(reference.id)
    stored = await store.find(caller, PREFIX + named[1]) if named is not None else None
    if stored is not None:
        items = [*orjson.loads(stored.response)["output"], *orjson.loads(stored.items)]
        found = [item for item in items if item["id"] == reference.id]
        if found:
            return ITEMS.validate_python(found)[0]
    raise InvalidRequest(
        f"item {reference.id!r} is not found among the stored responses",
        param=f"input.{number}.id",
    )
