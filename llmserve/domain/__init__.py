"""The vocabulary of all rooms: requests, events, models. Frozen data.

Knows nothing of HTTP, torch or threads.
"""

from llmserve.domain.adapter import AdapterInfo, AdapterSource, AdapterSpec
from llmserve.domain.caller import Caller, CallerLimits, Scope
from llmserve.domain.constraint import Constraint, ConstraintKind
from llmserve.domain.conversation import Conversation, Message, Prompt, Role
from llmserve.domain.encoder import EncodingInfo, EncodingSpec
from llmserve.domain.encoding import (
    EncodingAnswer,
    EncodingInput,
    EncodingPurpose,
    EncodingRequest,
    TextPair,
    Truncation,
)
from llmserve.domain.events import (
    Cancelled,
    Delta,
    Event,
    Failed,
    Finish,
    FinishReason,
    PromptLogprobs,
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
    SyntaxInfo,
    WarmReport,
)
from llmserve.domain.quantization import Quantization
from llmserve.domain.remote import RemoteSpec, UpstreamInfo, UpstreamState
from llmserve.domain.request import GenerationRequest
from llmserve.domain.sampling import AnswerRules, SamplingFields, SamplingParams
from llmserve.domain.tools import Tool, ToolCall, ToolCallDelta, ToolChoice, ToolMode

__all__ = [
    "AdapterInfo",
    "AdapterSource",
    "AdapterSpec",
    "AnswerRules",
    "Caller",
    "CallerLimits",
    "Cancelled",
    "Constraint",
    "ConstraintKind",
    "Conversation",
    "Delta",
    "EncodingAnswer",
    "EncodingInfo",
    "EncodingInput",
    "EncodingPurpose",
    "EncodingRequest",
    "EncodingSpec",
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
    "PromptLogprobs",
    "Quantization",
    "Queued",
    "RemoteSpec",
    "Role",
    "SamplingFields",
    "SamplingParams",
    "Scope",
    "Started",
    "SyntaxInfo",
    "Terminal",
    "TextPair",
    "TokenLogprobs",
    "Tool",
    "ToolCall",
    "ToolCallDelta",
    "ToolChoice",
    "ToolMode",
    "Truncation",
    "UpstreamInfo",
    "UpstreamState",
    "Usage",
    "WarmReport",
]
