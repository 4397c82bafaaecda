"""How generations look as answers of /v1/chat/completions."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from llmserve.api.openai.choices_writer import ChoicesWriter
from llmserve.api.openai.logprobs import LogprobsWriter, as_ids
from llmserve.api.token_logprobs import ChatLogprobs, Spell
from llmserve.domain import Delta, FinishReason, ToolCall, ToolCallDelta
from llmserve.service import Answer


class ChatWriter(ChoicesWriter):
    """A choice is a message, and its chunks are deltas; the first one names the role.

    What the model thought is `reasoning_content`, and for clients of newer servers `reasoning`. A
    client that knows functions and no tools gets one call, the first.
    """

    prefix = "chatcmpl-"
    whole_object = "chat.completion"
    chunk_object = "chat.completion.chunk"
    has_one_prompt = True

    def wanted(self, delta: Delta) -> Delta:
        if not self.shown.reasoning:
            delta = replace(delta, reasoning="")
        if self.shown.older_calls:
            delta = replace(delta, calls=tuple(call for call in delta.calls if not call.index))
        return delta

    def opening(self) -> dict[str, Any] | None:
        return {"delta": {"role": "assistant", "content": ""}}

    def piece(self, delta: Delta) -> dict[str, Any]:
        said: dict[str, Any] = {}
        if delta.text or not (delta.reasoning or delta.calls):
            said["content"] = delta.text
        if delta.calls:
            said |= self._calls([_piece_of_call(call) for call in delta.calls])
        return {"delta": said | _reasoning(delta.reasoning)}

    def closing(self) -> dict[str, Any]:
        return {"delta": {}}

    def content(self, answer: Answer) -> dict[str, Any]:
        message: dict[str, Any] = {
            "role": "assistant",
            "content": answer.text or (None if answer.calls else ""),
            "refusal": None,
        }
        if answer.calls:
            calls = answer.calls[:1] if self.shown.older_calls else answer.calls
            message |= self._calls([_whole_call(call) for call in calls])
        return {"message": message | _reasoning(answer.reasoning if self.shown.reasoning else "")}

    def finish_reason(self, reason: FinishReason) -> str:
        if reason is FinishReason.TOOL_CALLS and self.shown.older_calls:
            return "function_call"
        return super().finish_reason(reason)

    def logprobs_writer(self, spelling: Spell) -> LogprobsWriter:
        return ChatLogprobs(as_ids(spelling) if self.shown.tokens_as_ids else spelling)

    def _calls(self, calls: list[dict[str, Any]]) -> dict[str, Any]:
        if not self.shown.older_calls:
            return {"tool_calls": calls}
        functions = [call["function"] for call in calls]
        arguments = "".join(function["arguments"] for function in functions)
        return {"function_call": functions[0] | {"arguments": arguments}}


def _reasoning(text: str) -> dict[str, Any]:
    return {"reasoning_content": text, "reasoning": text} if text else {}


def _piece_of_call(piece: ToolCallDelta) -> dict[str, Any]:
    function = {"arguments": piece.arguments}
    if piece.name is None:
        return {"index": piece.index, "function": function}
    return {
        "index": piece.index,
        "id": piece.id,
        "type": "function",
        "function": {"name": piece.name} | function,
    }


def _whole_call(call: ToolCall) -> dict[str, Any]:
    function = {"name": call.name, "arguments": call.arguments}
    return {"id": call.id, "type": "function", "function": function}
