"""One request's life: limit → gate → lease → generate → record. Knows no transport."""

from llmserve.service.answer import Answer
from llmserve.service.generation import Generation
from llmserve.service.recorder import Recorder
from llmserve.service.service import Limits, Service

__all__ = ["Answer", "Generation", "Limits", "Recorder", "Service"]
