"""A request as an OpenAI-compatible server is asked; what it cannot be told is refused by name."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import orjson

from llmserve.domain import (
    Constraint,
    ConstraintKind,
    Conversation,
    GenerationRequest,
    SamplingFields,
    SamplingParams,
)
from llmserve.engines.remote.messages import message_body, tool_fields
from llmserve.engines.remote.server_kind import VLLM, ServerKind, Takes
from llmserve.errors import InvalidRequest

CHAT: Final = "/v1/chat/completions"
TEXT: Final = "/v1/completions"
NOTHING_ASKED: Final = SamplingParams()
"""What a field says that asks for nothing: a server that does not know it does the same."""
OWN_DEFAULTS: Final = {CHAT: {"temperature": 1.0}, TEXT: {"temperature": 1.0, "max_tokens": 16}}
"""Of these routes everywhere: where a request is silent, the model's own wishes go before them."""


@dataclass(frozen=True, slots=True)
class RequestBody:
    """Which route, and the JSON text for it."""

    path: str
    content: bytes


@dataclass(frozen=True, slots=True)
class RequestWriter:
    """Writes for one kind of server.

    Attributes:
        model: its name there.
        operators: sampling of the manifest, where a request is silent.
        keeps_any_budget: a budget for reasoning is left out where nothing is reasoned.
    """

    kind: ServerKind
    takes: Takes
    model: str
    operators: SamplingFields
    keeps_any_budget: bool = False

    def write(self, request: GenerationRequest) -> RequestBody:
        """The body for it.

        Raises:
            InvalidRequest: the server cannot be told one of its fields; names it.
        """
        self._check(request)
        is_chat = isinstance(request.prompt, Conversation)
        path = CHAT if is_chat else TEXT
        body: dict[str, Any] = {
            "model": self.model,
            "stream": True,
            "stream_options": {"include_usage": True},
        }
        body |= self._prompt(request) | self._sampling(request, path)
        body |= self._logprobs(request.sampling.logprobs, is_chat=is_chat)
        if request.constraint is not None:
            _merge(body, self._constraint(request.constraint, is_chat=is_chat))
        if request.cache_salt:
            body["cache_salt"] = request.cache_salt
        if request.max_prompt_tokens is not None:
            body["truncate_prompt_tokens"] = request.max_prompt_tokens
        return RequestBody(path, orjson.dumps(body))

    def _check(self, request: GenerationRequest) -> None:
        takes, sampling = self.takes, request.sampling
        if request.shows_token_ids:
            raise self._refusal("the ids of tokens are not told", request.shows_token_ids)
        if sampling.prompt_logprobs is not None:
            raise self._refusal("prompts have no log probabilities", "prompt_logprobs")
        if sampling.max_tokens == 0:
            raise self._refusal("something has to be generated", "max_tokens")
        if request.max_prompt_tokens is not None and not takes.truncation:
            raise self._refusal("prompts are not shortened", "truncate_prompt_tokens")
        if request.cache_salt and not takes.salt:
            raise self._refusal("it keeps no caches apart", "cache_salt")
        is_text = isinstance(request.prompt, str)
        if is_text and not request.adds_special_tokens and not takes.truncation:
            raise self._refusal("texts begin as it likes", "add_special_tokens")

    def _refusal(self, why: str, param: str) -> InvalidRequest:
        return InvalidRequest(
            f"{param} cannot be served: the model is on another server ({self.kind.value}), where "
            f"{why}; leave it out",
            param=param,
        )

    def _prompt(self, request: GenerationRequest) -> dict[str, Any]:
        prompt = request.prompt
        if not isinstance(prompt, Conversation):
            body: dict[str, Any] = {"prompt": prompt if isinstance(prompt, str) else list(prompt)}
            if isinstance(prompt, str) and not request.adds_special_tokens:
                body["add_special_tokens"] = False
            return body
        body = {"messages": [message_body(message, self.takes) for message in prompt.messages]}
        body |= tool_fields(prompt.tools, request.tool_choice, self.takes)
        body |= self._template_options(orjson.loads(prompt.template_options))
        if prompt.continues_last or not prompt.has_generation_prompt:
            if not self.takes.turns:
                is_open = prompt.continues_last
                param = "continue_final_message" if is_open else "add_generation_prompt"
                raise self._refusal("an answer is a message of its own", param)
            body["add_generation_prompt"] = False
            body["continue_final_message"] = prompt.continues_last
        return body

    def _template_options(self, options: dict[str, Any]) -> dict[str, Any]:
        """Two of them are fields of OpenAI's chats."""
        body = {
            name: options.pop(name) for name in ("reasoning_effort", "verbosity") if name in options
        }
        if body.get("reasoning_effort") == "none" and options.get("enable_thinking") is False:
            del options["enable_thinking"]
        if options and not self.takes.template_options:
            raise self._refusal("its chat template has no variables", "chat_template_kwargs")
        return body | ({"chat_template_kwargs": options} if options else {})

    def _sampling(self, request: GenerationRequest, path: str) -> dict[str, Any]:
        wanted, operators = _set(request.sampling), _set(self.operators)
        defaults = {
            name: value
            for name, value in _set(request.defaults).items()
            if OWN_DEFAULTS[path].get(name) != value
        }
        if not request.requires_reasoning and self.keeps_any_budget:
            wanted.pop("thinking_budget", None)
        body: dict[str, Any] = {}
        for name, value in (defaults | operators | wanted).items():
            if name in ("logprobs", "prompt_logprobs"):
                continue
            if name == "max_tokens":
                body[self.takes.max_tokens if path == CHAT else "max_tokens"] = value
            elif name == "logit_bias":
                body[name] = {str(token_id): bias for token_id, bias in value}
            elif name in self.takes.sampling:
                body[self.takes.sampling[name]] = value
            elif name in wanted and not _asks_nothing(name, wanted):
                raise self._refusal("that is not known", VLLM.get(name, name))
        return body

    def _logprobs(self, num_top: int | None, *, is_chat: bool) -> dict[str, Any]:
        if num_top is None:
            return {}
        if not is_chat:
            return {"logprobs": num_top}
        return {"logprobs": True, **({"top_logprobs": num_top} if num_top else {})}

    def _constraint(self, constraint: Constraint, *, is_chat: bool) -> dict[str, Any]:
        if not is_chat and not self.takes.formats_texts:
            raise self._refusal("texts have no form", constraint.param)
        match constraint.kind:
            case ConstraintKind.JSON_OBJECT:
                return {"response_format": {"type": "json_object"}}
            case ConstraintKind.JSON_SCHEMA:
                try:
                    schema = orjson.loads(constraint.source)
                except orjson.JSONDecodeError:
                    raise InvalidRequest(
                        "the schema is not valid JSON", param=constraint.param
                    ) from None
                named = {"name": "answer", "schema": schema, "strict": True}
                return {"response_format": {"type": "json_schema", "json_schema": named}}
        place = self.takes.constraints.get(constraint.kind)
        if place is None:
            raise self._refusal("answers have no such form", constraint.param)
        is_list = constraint.kind is ConstraintKind.CHOICE
        value = orjson.loads(constraint.source) if is_list else constraint.source
        outer, _, inner = place.partition(".")
        return {outer: {inner: value} if inner else value}


def unsaid(operators: SamplingFields, takes: Takes) -> list[str]:
    """The manifest's fields that a server cannot be told."""
    named = _set(operators)
    known = {*takes.sampling, "max_tokens"}
    return [name for name in named if name not in known and not _asks_nothing(name, named)]


def _merge(body: dict[str, Any], more: dict[str, Any]) -> None:
    assert not body.keys() & more.keys(), "two fields say the same"
    body.update(more)


def _set(fields: SamplingFields) -> dict[str, Any]:
    """What is not left open, in the order of the fields."""
    values = {name: getattr(fields, name) for name in SamplingFields.__dataclass_fields__}
    return {name: value for name, value in values.items() if value is not None}


def _asks_nothing(name: str, wanted: dict[str, Any]) -> bool:
    """Whether a server that does not know the field does what it says."""
    if name == "includes_stop" and not wanted.get("stop") and not wanted.get("stop_token_ids"):
        return True
    return bool(wanted[name] == getattr(NOTHING_ASKED, name))
