"""What of a request makes its prompt: also of one whose tokens are only counted."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Annotated, Any, ClassVar, Final, Literal

import orjson
from pydantic import Discriminator, Field, PrivateAttr, Tag, ValidationInfo, field_validator

from llmserve.api.fields import Fields
from llmserve.api.no_op import MARK
from llmserve.api.responses.items import Item, MessageItem
from llmserve.api.responses.text_config import TextConfig
from llmserve.api.responses.tools import FunctionTool, ToolChoiceIn, ToolIn, chosen
from llmserve.api.responses.turns import check_answered, messages_of
from llmserve.domain import Conversation, Message, ToolChoice, ToolMode
from llmserve.domain.offered_tools import MAX_TOOLS, check_choice, check_different
from llmserve.domain.request import WHATEVER_FITS

MANY_ITEMS: Final = 4096
"""More are converted in a thread."""

Effort = Literal["none", "minimal", "low", "medium", "high", "xhigh", "max"]


class ReasoningConfig(Fields):
    """How the model is to think."""

    effort: Effort | None = Field(
        None, description="Handed to the chat template; `none` also as `enable_thinking: false`."
    )
    summary: Literal["auto", "concise", "detailed"] | None = Field(
        None,
        description="The reasoning itself is told, which needs no summary.",
        json_schema_extra=MARK,
    )
    generate_summary: Literal["auto", "concise", "detailed"] | None = Field(
        None, description="Older name of `summary`.", json_schema_extra=MARK
    )


def _input_kind(sent: Any) -> str:
    return "list[item]" if isinstance(sent, list) else "str"


class PromptFields(Fields):
    """The conversation, and what its template is given."""

    may_be_empty: ClassVar = frozenset(
        {"chat_template_kwargs", "reasoning", "text", "tool_choice", "tools"}
    )

    model: str | None = Field(None, description="A served model; the default one if absent.")
    # By its kind: an error in an item would otherwise be reported as one in a text.
    input: Annotated[
        Annotated[str, Field(min_length=1), Tag("str")]
        | Annotated[list[Item], Field(min_length=1, fail_fast=True), Tag("list[item]")],
        Discriminator(_input_kind),
    ] = Field(description="What the user says, or the items of a conversation.")
    instructions: str | None = Field(None, description="A system message before the input.")
    previous_response_id: str | None = Field(
        None,
        max_length=256,
        description="The conversation goes on after this response, which was stored.",
    )
    tools: list[ToolIn] | None = Field(
        None, max_length=MAX_TOOLS, description="Functions that the model may call."
    )
    tool_choice: ToolChoiceIn | None = Field(
        None, description="none, auto, required, one function, or `allowed_tools`."
    )
    parallel_tool_calls: bool | None = Field(
        None, description="Whether several calls may come in one answer; true if absent."
    )
    text: TextConfig | None = Field(None, description="What the answer's text must look like.")
    reasoning: ReasoningConfig | None = Field(None, description="How the model is to think.")
    truncation: Literal["auto", "disabled"] | None = Field(
        None, description="`auto` keeps the last tokens of a prompt that is too long."
    )
    chat_template_kwargs: dict[str, Any] | None = Field(
        None, description="Further variables of the chat template (vLLM's field)."
    )

    _history: tuple[Item, ...] = PrivateAttr(())

    @field_validator("tools")
    @classmethod
    def _different_tools(cls, tools: list[FunctionTool] | None) -> list[FunctionTool] | None:
        check_different([tool.name for tool in tools or ()])
        return tools

    @field_validator("tool_choice")
    @classmethod
    def _among_tools(cls, choice: Any, others: ValidationInfo) -> Any:
        names = {tool.name for tool in others.data.get("tools") or ()}
        check_choice(chosen(choice, is_parallel=True), names)
        return choice

    @property
    def is_long(self) -> bool:
        """Whether it has very many items."""
        return len(self._history) + len(self.input) > MANY_ITEMS and isinstance(self.input, list)

    @property
    def choice(self) -> ToolChoice:
        """Which tools the answer may call."""
        return chosen(self.tool_choice, is_parallel=self.parallel_tool_calls is not False)

    @property
    def items(self) -> list[Item]:
        """The input; a text is a message of the user."""
        if isinstance(self.input, list):
            return self.input
        return [MessageItem(role="user", content=self.input)]

    @property
    def max_prompt_tokens(self) -> int | None:
        """How many of the prompt's last tokens are kept, if not all."""
        return WHATEVER_FITS if self.truncation == "auto" else None

    def goes_on(self, history: Sequence[Item], items: Sequence[Item]) -> None:
        """The conversation so far, and the input in which no item refers to a stored one."""
        self._history = tuple(history)
        self.input = list(items)

    def conversation(self) -> Conversation:
        """As the service takes it. With the choice `none` the model is not shown any tools.

        Raises:
            InvalidRequest: a result is not that of a call.
        """
        is_shown = self.choice.mode is not ToolMode.NONE
        return Conversation(
            messages=tuple(self._messages()),
            tools=tuple(tool.tool() for tool in self.tools or ()) if is_shown else (),
            template_options=orjson.dumps(dict(self._template_options())).decode(),
        )

    def _messages(self) -> Iterator[Message]:
        if self.instructions:
            yield Message("system", self.instructions)
        items = (*self._history, *self.items)
        check_answered(items)
        yield from messages_of(items)

    def _template_options(self) -> Iterator[tuple[str, Any]]:
        effort = self.reasoning.effort if self.reasoning is not None else None
        if effort is not None:
            yield "reasoning_effort", effort
            if effort == "none":
                yield "enable_thinking", False
        if self.text is not None and self.text.verbosity is not None:
            yield "verbosity", self.text.verbosity
        yield from (self.chat_template_kwargs or {}).items()
