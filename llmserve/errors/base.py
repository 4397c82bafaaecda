"""The root of all errors, and those of whoever starts a server or looks for one."""

from __future__ import annotations

from typing import Any


class LLMServeError(Exception):
    """Root of the tree.

    Attributes:
        status: the number in HTTP.
        type: OpenAI's word for the kind of error.
        code: what programs tell errors apart by.
        message: state, then remedy; safe to show to a client.
        param: the request field at fault, where there is one.
        retry_after_seconds: when to try again, where that helps.
    """

    status: int = 500
    type: str = "server_error"
    code: str = "internal_error"

    def __init__(
        self,
        message: str,
        *,
        param: str | None = None,
        retry_after_seconds: float | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.param = param
        self.retry_after_seconds = retry_after_seconds

    def details(self) -> dict[str, Any]:
        """What a client is told, wherever errors are told in JSON."""
        return {
            "message": self.message,
            "type": self.type,
            "param": self.param,
            "code": self.code,
        }


class ConfigurationError(LLMServeError):
    """Settings or a model's manifest are wrong; names the file and the key."""

    code = "configuration_error"


class ServerUnreachable(LLMServeError):
    """A command's server does not answer, or not as llmserve does. Never sent to a client."""
