"""A served model, as a message."""

from __future__ import annotations

from llmserve.proto.v1 import generation_pb2 as pb
from llmserve.registry.served import ModelStatus, ServedModel


def model_of(model: ServedModel) -> pb.Model:
    """What is known of it now."""
    message = pb.Model(name=model.spec.name, aliases=model.spec.aliases, status=model.status.value)
    if model.status is ModelStatus.READY:
        info = model.loaded_engine.info
        message.max_context = info.max_context or 0
        message.architecture = info.architecture
        message.capabilities.extend(info.capabilities)
    return message
