"""The processes: a supervisor that keeps workers alive, and the workers.

`create_app` is the ASGI factory for any other server, Gunicorn for one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fastapi import FastAPI


def create_app() -> FastAPI:
    """The ASGI factory. Imports what it needs when called, as the supervisor never calls it."""
    from llmserve.workers.app import create_app as create

    return create()


__all__ = ["create_app"]
