"""WS /ws: prompts in the fields of POST /generate."""

from __future__ import annotations

from fastapi import APIRouter, WebSocket

from llmserve.api.native.frames import PromptFrame
from llmserve.api.socket_session import serve_socket

router = APIRouter(tags=["native"])


@router.websocket("/ws")
async def websocket(socket: WebSocket) -> None:
    """Serve one socket until its client leaves."""
    await serve_socket(socket, PromptFrame.model_validate)
