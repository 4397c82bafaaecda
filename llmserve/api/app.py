"""The ASGI application: routes, middleware, lifespan."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from importlib.metadata import version
from typing import Final

from fastapi import FastAPI
from starlette.middleware.cors import CORSMiddleware
from starlette.middleware.gzip import DEFAULT_EXCLUDED_CONTENT_TYPES, GZipMiddleware

from llmserve import bootstrap
from llmserve.api import bare_rerank, docs, probes
from llmserve.api.admin import lora_routes
from llmserve.api.admin import routes as admin
from llmserve.api.anthropic import models as anthropic_models
from llmserve.api.anthropic import routes as anthropic
from llmserve.api.anthropic.headers import LIMITS, REQUEST_ID
from llmserve.api.bare_paths import without_version
from llmserve.api.cohere import embed as cohere_embed
from llmserve.api.cohere import routes as cohere
from llmserve.api.edge.boundary import BoundaryMiddleware
from llmserve.api.edge.draining import drain_on_signal
from llmserve.api.edge.request_context import HEADER as REQUEST_ID_HEADER
from llmserve.api.edge.request_context import RequestContextMiddleware
from llmserve.api.errors import install_error_handlers
from llmserve.api.ignored import HEADER as IGNORED_HEADER
from llmserve.api.in_process import working_on_batches
from llmserve.api.native import routes as native
from llmserve.api.native import websocket
from llmserve.api.ndjson import NDJSON
from llmserve.api.ollama import embeddings as ollama_embeddings
from llmserve.api.ollama import models as ollama_models
from llmserve.api.ollama import refused as ollama_refused
from llmserve.api.ollama import root as ollama_root
from llmserve.api.ollama import routes as ollama
from llmserve.api.openai import (
    background,
    batches,
    chat_socket,
    completions,
    embeddings,
    files,
    models,
    tokenize,
)
from llmserve.api.playground.routes import playground_router
from llmserve.api.responses import routes as responses
from llmserve.api.responses import stored_routes as stored_responses
from llmserve.api.tei import routes as tei
from llmserve.api.tgi import routes as tgi
from llmserve.api.vllm import routes as vllm
from llmserve.settings import Settings

LIMIT_HEADERS: Final = tuple(
    f"x-ratelimit-{what}-{kind}"
    for what in ("limit", "remaining", "reset")
    for kind in ("requests", "tokens")
)


Beside = Callable[[bootstrap.Container], contextlib.AbstractAsyncContextManager[None]]
"""What serves the same container in another way while the application runs."""


def create_app(
    settings: Settings,
    board: int | None = None,
    beside: Beside = lambda _: contextlib.nullcontext(),
) -> FastAPI:
    """The application for these settings; models load once it is started. `board` is the inherited
    descriptor of the workers' board, where there is one."""
    directory = bootstrap.hold_run_directory(settings)
    metrics = bootstrap.build_metrics(settings, directory)

    @contextlib.asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with bootstrap.run(settings, metrics, directory, board) as container:
            app.state.container = container
            async with beside(container), working_on_batches(app, container):
                with drain_on_signal(container.service, settings.drain_timeout_seconds):
                    yield

    app = FastAPI(
        title="llmserve",
        version=version("llmserve"),
        description="A self-hosted token server for HuggingFace models.",
        lifespan=lifespan,
        root_path=settings.root_path,
        openapi_url=None,  # `docs` has both
        docs_url=None,
        redoc_url=None,
    )
    app.state.making_document = asyncio.Lock()
    routers = (
        *((playground_router(),) if settings.playground else ()),  # `/` before Ollama's
        # They are tried in this order: the busiest first.
        completions.router,
        embeddings.router,
        native.router,
        anthropic.router,
        anthropic_models.router,  # before OpenAI's: they are for requests with a certain header
        models.router,
        responses.router,
        stored_responses.router,
        ollama.router,
        ollama_embeddings.router,
        ollama_models.router,
        ollama_refused.router,
        ollama_root.router,
        tgi.router,
        tei.router,
        cohere.router,
        cohere_embed.router,
        bare_rerank.router,
        vllm.router,
        tokenize.router,
        files.router,
        batches.router,
        background.router,
        websocket.router,
        chat_socket.router,
        probes.router,
        docs.router,
        admin.router,
        lora_routes.router,
    )
    openai = (
        *(completions.router, models.router, tokenize.router),
        *(responses.router, stored_responses.router, files.router, batches.router),
        *(background.router, embeddings.router, cohere.router, vllm.router),
    )
    for router in (*routers, without_version(openai, routers)):
        app.include_router(router)
    install_error_handlers(app)
    # The last one added is the outermost.
    app.add_middleware(
        GZipMiddleware,
        minimum_size=settings.gzip_min_bytes,
        compresslevel=5,
        exclude_content_types=(*DEFAULT_EXCLUDED_CONTENT_TYPES, NDJSON),
    )
    app.add_middleware(BoundaryMiddleware)
    if settings.cors_origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=list(settings.cors_origins),
            allow_methods=["DELETE", "GET", "HEAD", "POST"],
            allow_headers=["*"],
            expose_headers=[
                *(REQUEST_ID_HEADER, IGNORED_HEADER, "Retry-After", *LIMIT_HEADERS),
                *(REQUEST_ID, *LIMITS),
            ],
        )
    app.add_middleware(RequestContextMiddleware, metrics=metrics)
    return app
