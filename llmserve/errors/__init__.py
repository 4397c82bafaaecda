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

from llmserve.errors.base import (
    ConfigurationError,
    LLMServeError,
    ServerUnreachable,
)
from llmserve.errors.request import (
    BatchNotFound,
    BodyTimeout,
    BodyTooLarge,
    Conflict,
    DeadlineUnreachable,
    FileNotThere,
    Forbidden,
    HeadersTooLarge,
    HeaderTimeout,
    IdempotencyKeyReused,
    InputTooLong,
    InvalidRequest,
    MethodNotAllowed,
    ModelNotFound,
    NotFound,
    PreviousResponseNotFound,
    PromptTooLong,
    QueueFull,
    QuotaExceeded,
    RateLimited,
    RequestError,
    ResponseNotFound,
    TooMany,
    Unauthorized,
    UnsupportedEncoding,
    UpgradeRequired,
)
from llmserve.errors.server import (
    DeviceLost,
    Displaced,
    GenerationFailed,
    ModelBroken,
    ModelLoading,
    ModelUnloaded,
    NotReady,
    OutOfMemory,
    ServerError,
    ShuttingDown,
    StoreFailed,
    UpstreamFailed,
    UpstreamTimeout,
    WaitTimeout,
    WorkerGone,
    WorkerInvalid,
)

__all__ = [
    "BatchNotFound",
    "BodyTimeout",
    "BodyTooLarge",
    "ConfigurationError",
    "Conflict",
    "DeadlineUnreachable",
    "DeviceLost",
    "Displaced",
    "FileNotThere",
    "Forbidden",
    "GenerationFailed",
    "HeaderTimeout",
    "HeadersTooLarge",
    "IdempotencyKeyReused",
    "InputTooLong",
    "InvalidRequest",
    "LLMServeError",
    "MethodNotAllowed",
    "ModelBroken",
    "ModelLoading",
    "ModelNotFound",
    "ModelUnloaded",
    "NotFound",
    "NotReady",
    "OutOfMemory",
    "PreviousResponseNotFound",
    "PromptTooLong",
    "QueueFull",
    "QuotaExceeded",
    "RateLimited",
    "RequestError",
    "ResponseNotFound",
    "ServerError",
    "ServerUnreachable",
    "ShuttingDown",
    "StoreFailed",
    "TooMany",
    "Unauthorized",
    "UnsupportedEncoding",
    "UpgradeRequired",
    "UpstreamFailed",
    "UpstreamTimeout",
    "WaitTimeout",
    "WorkerGone",
    "WorkerInvalid",
]
