"""A body that asks for generations, in whichever dialect."""

from __future__ import annotations

from abc import abstractmethod

from llmserve.api.fields import Fields
from llmserve.domain import GenerationRequest


class GenerationBody(Fields):
    """Each dialect derives its bodies from this one, and each body makes its own requests."""

    @property
    def num_requests(self) -> int:
        """How many generations it asks for."""
        return 1

    @property
    def is_long(self) -> bool:
        """Whether `requests` takes so long that it should run in a thread."""
        return False

    @abstractmethod
    def requests(self, request_id: str, timeout_seconds: float | None) -> list[GenerationRequest]:
        """One request per generation, all for the same model.

        `timeout_seconds` comes with the connection; a shorter one in the body takes precedence.
        """
