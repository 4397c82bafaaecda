"""One request's life: limit → gate → lease → generate → measure. Knows no transport."""

from llmserve.service.account import Account
from llmserve.service.generation import Answer, Generation
from llmserve.service.service import Limits, Service

__all__ = ["Account", "Answer", "Generation", "Limits", "Service"]
