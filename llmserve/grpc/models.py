"""A served model, as a message."""

from __future__ import annotations

from llmserve.proto.v1 import generation_pb2 as pb
from llmserve.registry.resolved import Resolved
from llmserve.registry.served import ModelStatus


def model_of(found: Resolved) -> pb.Model:
    """What is known of it now."""
    model = found.model
    message = pb.Model(name=found.name, aliases=found.names[1:], status=found.status.value)
    if model.status is ModelStatus.READY:
        info = model.loaded_engine.info
        message.max_context = info.max_context or 0
        message.architecture = info.architecture
        message.capabilities.extend(info.capabilities)
    return message
