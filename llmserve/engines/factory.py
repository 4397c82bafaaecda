"""Chooses and builds the engine for a model."""

from __future__ import annotations

import os

from loguru import logger

from llmserve.domain import EngineKind, ModelSpec
from llmserve.engines.base import Engine
from llmserve.engines.threaded import Fetch, ThreadedEngine


def build_engine(
    spec: ModelSpec, *, max_running: int, torch_threads: int | None, fetch: Fetch
) -> Engine:
    """The engine that the spec asks for; `auto` takes the best one the model supports.

    `torch_threads` is per running request, `None` shares the cores among `max_running`.
    """
    why = (
        "asked for by the model's settings"
        if spec.engine is EngineKind.THREADED
        else "auto: runs every causal language model of transformers"
    )
    threads = torch_threads or max(1, (os.cpu_count() or 1) // max_running)
    logger.info(
        "model {} is served by the threaded engine ({}), {} at once, {} CPU threads each",
        spec.name,
        why,
        max_running,
        threads,
    )
    return ThreadedEngine(
        spec, why=why, max_running=max_running, torch_threads=threads, fetch=fetch
    )
