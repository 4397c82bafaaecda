"""The vocabulary of all rooms: requests, events, models. Frozen data.

Knows nothing of HTTP, torch or threads.
"""

from llmserve.domain.caller import Caller, CallerLimits, Scope
from llmserve.domain.conversation import Message, Prompt, Role
from llmserve.domain.events import (
    Cancelled,
    Delta,
    Event,
    Failed,
    Finish,
    FinishReason,
    Queued,
    Started,
    Terminal,
    TokenLogprobs,
    Usage,
)
from llmserve.domain.model import (
    EngineInfo,
    EngineKind,
    EngineStats,
    LoadProgress,
    ModelSpec,
    WarmReport,
)
from llmserve.domain.request import GenerationRequest
from llmserve.domain.sampling import AnswerRules, SamplingFields, SamplingParams

__all__ = [
    "AnswerRules",
    "Caller",
    "CallerLimits",
    "Cancelled",
    "Delta",
    "EngineInfo",
    "EngineKind",
    "EngineStats",
    "Event",
    "Failed",
    "Finish",
    "FinishReason",
    "GenerationRequest",
    "LoadProgress",
    "Message",
    "ModelSpec",
    "Prompt",
    "Queued",
    "Role",
    "SamplingFields",
    "SamplingParams",
    "Scope",
    "Started",
    "Terminal",
    "TokenLogprobs",
    "Usage",
    "WarmReport",
]
