"""Errors whose caller must change something."""

from __future__ import annotations

from llmserve.errors.base import LLMServeError


class RequestError(LLMServeError):
    """The request cannot be served as it is."""

    status = 400
    type = "invalid_request_error"
    code = "invalid_request"


class InvalidRequest(RequestError):
    """A field is malformed, out of range, unknown or not supported."""


class PromptTooLong(InvalidRequest):
    """The prompt leaves no room for a single token.

    The message is OpenAI's, down to digits without separators: client libraries parse both numbers
    and truncate or fall back. Some see only the message, so it contains the code.
    With `is_exact=False`, `prompt_tokens` is a lower bound that follows from the text's length.
    """

    code = "context_length_exceeded"

    def __init__(
        self,
        prompt_tokens: int,
        completion_tokens: int,
        max_context: int,
        *,
        is_exact: bool = True,
    ) -> None:
        least = "" if is_exact else f"; it is so long that it has {prompt_tokens} or more"
        super().__init__(
            f"This model's maximum context length is {max_context} tokens. However, you requested "
            f"{prompt_tokens + completion_tokens} tokens ({prompt_tokens} in the messages, "
            f"{completion_tokens} in the completion). Please reduce the length of the messages or "
            f"completion. ({self.code}: the prompt alone may have {max_context - 1} tokens at "
            f"most{least})",
            param="prompt",
        )
        self.prompt_tokens = prompt_tokens
        self.max_prompt_tokens = max_context - 1
        self.is_exact = is_exact


class InputTooLong(InvalidRequest):
    """One of the inputs to encode is longer than the model takes, or the request allows.

    The message begins as OpenAI's, down to digits without separators.
    """

    code = "context_length_exceeded"

    def __init__(self, number: int, num_tokens: int, max_tokens: int) -> None:
        super().__init__(
            f"This model's maximum context length is {max_tokens} tokens. However, input {number} "
            f"has {num_tokens} tokens. Please send a shorter one, or ask for it to be truncated. "
            f"({self.code})",
            param="input",
        )
        self.num_tokens = num_tokens
        self.max_tokens = max_tokens


class PreviousResponseNotFound(InvalidRequest):
    """The conversation is to go on after a response that is not stored."""

    code = "previous_response_not_found"


class Unauthorized(RequestError):
    """No key, or a wrong one."""

    status = 401
    type = "authentication_error"
    code = "invalid_api_key"


class Forbidden(RequestError):
    """The caller may not do this."""

    status = 403
    type = "permission_error"
    code = "forbidden"


class NotFound(RequestError):
    """There is no such route."""

    status = 404
    type = "not_found_error"
    code = "not_found"


class ModelNotFound(NotFound):
    """No model of that name is served."""

    code = "model_not_found"


class ResponseNotFound(NotFound):
    """No response of that id is stored, or it is another caller's."""

    code = "response_not_found"


class FileNotThere(NotFound):
    """No file of that id is stored, or it is another caller's."""

    code = "file_not_found"


class BatchNotFound(NotFound):
    """No batch of that id is stored, or it is another caller's."""

    code = "batch_not_found"


class MethodNotAllowed(RequestError):
    """The route does not take this method."""

    status = 405
    code = "method_not_allowed"


class Conflict(RequestError):
    """It cannot be done in the state in which the thing is."""

    status = 409
    code = "conflict"


class BodyTooLarge(RequestError):
    """The request body is over the limit."""

    status = 413
    code = "body_too_large"


class UnsupportedEncoding(RequestError):
    """The request body is compressed in a way that we cannot read."""

    status = 415
    code = "unsupported_encoding"


class IdempotencyKeyReused(RequestError):
    """The same key came before, with another request."""

    status = 422
    code = "idempotency_key_reused"

    def __init__(self, key: str) -> None:
        super().__init__(
            f"the Idempotency-Key {key[:100]!r} came before with another request; send a new key "
            "with a new request",
            param="Idempotency-Key",
        )


class UpgradeRequired(RequestError):
    """The client asks for a version of the WebSocket protocol that we do not speak."""

    status = 426
    code = "upgrade_required"


class HeaderTimeout(RequestError):
    """The client took too long to send its headers."""

    status = 408
    code = "header_timeout"


class HeadersTooLarge(RequestError):
    """The request line and the headers are over the limit."""

    status = 431
    code = "headers_too_large"


class BodyTimeout(RequestError):
    """The client took too long to send its body."""

    status = 408
    code = "body_timeout"


class TooMany(RequestError):
    """More than the server or the caller's key accepts now."""

    status = 429
    type = "rate_limit_error"
    code = "too_many_requests"


class QueueFull(TooMany):
    """Every slot is taken and so is every place in the queue."""

    code = "queue_full"


class DeadlineUnreachable(TooMany):
    """The predicted wait is longer than the request's timeout."""

    code = "deadline_unreachable"


class QuotaExceeded(TooMany):
    """The caller's key, or all together, have as much stored as they may."""

    code = "quota_exceeded"


class RateLimited(TooMany):
    """The caller's key is over one of its limits; the message says which."""

    code = "rate_limit_exceeded"
