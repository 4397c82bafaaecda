"""The log's lines about a model that is ready."""

from __future__ import annotations

from loguru import logger

from llmserve.domain import EngineInfo
from llmserve.engines.engine import Engine
from llmserve.observability.stages import Stages
from llmserve.registry.served import ServedModel


def log_ready(model: ServedModel, engine: Engine, stages: Stages) -> None:
    """What was loaded and how long each stage took; then what does not work as it should."""
    info = engine.info
    if info.upstreams:
        logger.info("model {} is ready: {}", model.spec.name, info.why)
    else:
        _log_weights(model, info, stages)
    for warning in model.warnings:
        logger.warning("model {}: {}", model.spec.name, warning)


def _log_weights(model: ServedModel, info: EngineInfo, stages: Stages) -> None:
    logger.info(
        "model {} is ready after {:.1f} s ({}): {:.1f}M parameters, {} on {}, {:.0f} MiB, "
        "context {} tokens",
        model.spec.name,
        stages.total_seconds,
        stages,
        info.parameters / 1e6,
        info.dtype,
        info.device,
        info.weight_bytes / 2**20,
        info.max_context,
    )
