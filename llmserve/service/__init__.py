"""One request's life: limit → gate → lease → generate → record. Knows no transport."""

from llmserve.service.answer import Answer
from llmserve.service.generation import Generation
from llmserve.service.limits import Limits
from llmserve.service.recorder import Recorder
from llmserve.service.service import Service

__all__ = ["Answer", "Generation", "Limits", "Recorder", "Service"]
