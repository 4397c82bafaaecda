"""Everything that can go wrong, as one tree. Of HTTP it knows only the status codes.

LLMServeError
├── ConfigurationError          settings or a manifest are wrong (start-up)
├── ServerUnreachable           a command finds no llmserve at a URL
├── RequestError                the caller must change something
│   ├── InvalidRequest          400
│   │   ├── PromptTooLong       400
│   │   ├── InputTooLong        400
│   │   └── PreviousResponseNotFound 400
│   ├── Unauthorized            401
│   ├── Forbidden               403
│   ├── NotFound                404
│   │   ├── ModelNotFound       404
│   │   ├── ResponseNotFound    404
│   │   ├── FileNotThere        404
│   │   └── BatchNotFound       404
│   ├── MethodNotAllowed        405
│   ├── HeaderTimeout           408
│   ├── BodyTimeout             408
│   ├── Conflict                409
│   ├── BodyTooLarge            413
│   ├── UnsupportedEncoding     415
│   ├── IdempotencyKeyReused    422
│   ├── UpgradeRequired         426
│   ├── HeadersTooLarge         431
│   └── TooMany                 429, with Retry-After
│       ├── QueueFull
│       ├── DeadlineUnreachable
│       ├── QuotaExceeded
│       └── RateLimited
└── ServerError                 the caller may try again
    ├── GenerationFailed        500
    ├── WorkerGone              502
    ├── WorkerInvalid           502
    ├── UpstreamFailed          502
    ├── NotReady                503
    │   ├── ModelLoading        503, with Retry-After
    │   ├── ModelBroken         503
    │   │   └── DeviceLost      503
    │   ├── ModelUnloaded       503
    │   ├── Displaced           503, with Retry-After
    │   └── ShuttingDown        503, with Retry-After
    ├── OutOfMemory             503, with Retry-After
    ├── StoreFailed             503
    ├── WaitTimeout             503, with Retry-After
    └── UpstreamTimeout         504
"""

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


class ServerError(LLMServeError):
    """The request is valid; the server could not serve it."""


class GenerationFailed(ServerError):
    """The engine raised an exception while generating."""

    code = "generation_failed"


class WorkerGone(ServerError):
    """Another worker of the box went away before it answered."""

    status = 502
    code = "worker_gone"


class WorkerInvalid(ServerError):
    """Another worker of the box answered what no worker answers."""

    status = 502
    code = "worker_invalid"


class UpstreamFailed(ServerError):
    """The server that serves this model did not answer as it should."""

    status = 502
    code = "upstream_failed"


class UpstreamTimeout(ServerError):
    """The server that serves this model was silent for too long."""

    status = 504
    code = "upstream_timeout"


class NotReady(ServerError):
    """The model cannot take requests at this moment."""

    status = 503
    type = "service_unavailable_error"
    code = "not_ready"


class ModelLoading(NotReady):
    """The model is still loading or warming up."""

    code = "model_loading"


class ModelBroken(NotReady):
    """The model could not be loaded; the message says why."""

    code = "model_broken"


class DeviceLost(ModelBroken):
    """The device stopped answering while the model was loaded: only a new process can use it."""


class ModelUnloaded(NotReady):
    """An operator unloaded the model, or it is being unloaded."""

    code = "model_unloaded"


class Displaced(NotReady):
    """Background work that was ended before its time, as others need its place: it is to be run
    again."""

    code = "displaced"


class ShuttingDown(NotReady):
    """The server is draining and takes no new work."""

    code = "shutting_down"


class OutOfMemory(ServerError):
    """The device ran out of memory in this request; others go on."""

    status = 503
    code = "out_of_memory"


class StoreFailed(ServerError):
    """Stored responses or batches cannot be read or written."""

    status = 503
    code = "store_failed"


class WaitTimeout(ServerError):
    """The request waited for a slot longer than the server allows, or its prompt was not tokenized
    before its deadline."""

    status = 503
    type = "service_unavailable_error"
    code = "wait_timeout"
