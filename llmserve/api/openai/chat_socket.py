"""WS /v1/chat/completions: chats on a socket, in the fields of the POST of the same path."""

from __future__ import annotations

from fastapi import APIRouter, WebSocket

from llmserve.api.openai.chat_frames import ChatFrame
from llmserve.api.socket_session import serve_socket

router = APIRouter(tags=["openai"])


@router.websocket("/v1/chat/completions")
async def chat_socket(socket: WebSocket) -> None:
    """Serve one socket until its client leaves."""
    await serve_socket(socket, ChatFrame.model_validate)
