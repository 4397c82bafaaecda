"""One model's chat template: turns a conversation into the prompt's text. Knows no tokens."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from traceback import walk_tb
from types import MappingProxyType
from typing import Any, Final

import jinja2
from transformers import PreTrainedTokenizerBase

from llmserve.domain import Conversation, Tool
from llmserve.errors import InvalidRequest
from llmserve.text.continuation import cut, tagged
from llmserve.text.taint import MARK, marks_of, plain, tainted, untainted
from llmserve.text.template_environment import TemplateEnvironment
from llmserve.text.template_options import template_options
from llmserve.text.template_trial import TemplateTrial, frame_of, try_out
from llmserve.text.turn_forms import TurnForms
from llmserve.text.turn_trial import FRAMED, TOOL, TOOL_NAME, try_turns
from llmserve.text.turns import Turn, Turns

MAX_COMPLAINT: Final = 300
"""At most so many characters of a template's own error are shown to a client."""

MAX_NAME: Final = 64
"""At most so many characters of a tool's name are."""

NO_OPTIONS: Final[Mapping[str, Any]] = MappingProxyType({})

TEMPLATE_FILE: Final = "<template>"
"""What Jinja calls a template without a file, in tracebacks."""


class ChatTemplate:
    """Renders conversations; tried out on construction. May be used from any thread.

    Attributes:
        name: its name in errors.
        source: its text, where there is one.
        marks_words: whether it marks callers' characters; a tokenizer that has its own renderer
            does not.
        trial: which formats the template takes, and what it does with plain conversations.
        forms: in which it takes tools, calls, results and reasoning.
        problems: what an operator should know about that.
        frame: what is written around callers' words, in conversations with tools and without.
    """

    def __init__(self, hf_tokenizer: Any, given: str | None = None) -> None:
        """`given` replaces the tokenizer's own template."""
        self._hf = hf_tokenizer
        self._given = given
        self._compiled: jinja2.Template | None = None
        self._compiled_for_tools: jinja2.Template | None = None
        self._globals: frozenset[str] = frozenset()
        self._broken: Exception | None = None
        self.name = _name(hf_tokenizer, given)
        self.source = ""
        self.marks_words: bool = (
            type(hf_tokenizer).apply_chat_template is PreTrainedTokenizerBase.apply_chat_template
        )
        if self.marks_words:
            self._compile()
        self.trial: TemplateTrial = try_out(self._render)
        self.problems = tuple(self._problems())
        self.forms: TurnForms = try_turns(self._render, self.trial.formats)
        self.frame = "\0".join((self.trial.frame, self._frame_of_tools()))

    @property
    def shows_tools(self) -> bool:
        """Whether the template shows tools to the model, or we do in a generic form."""
        return self.forms.shows_tools

    def render(self, conversation: Conversation) -> str:
        """The conversation up to where its answer begins, `Tainted` where callers wrote it.

        Raises:
            InvalidRequest: the template raised an error, or leaves out what users say; a template
                option is the server's; a message cannot be continued.
        """
        if "user" in self.trial.lost:
            raise InvalidRequest(
                f"{self._loss()}; use /v1/completions or /generate, or give the model another one "
                "with `chat_template` in its model.toml",
                param="messages",
            )
        if conversation.continues_last:
            return cut(self._rendered(tagged(conversation)), conversation)
        return self._rendered(conversation)

    def opening(self, conversation: Conversation, rendered: str) -> str:
        """What the model has already said of its answer, by what was `rendered`: all that follows
        the last character of a caller's. It begins with the end of an earlier turn.

        Of a conversation whose last message goes on this message is part of the answer.
        """
        text = plain(rendered)
        opening = text[marks_of(rendered).rfind(MARK) + 1 :]
        if conversation.continues_last:
            if self.marks_words:
                return opening
            last = conversation.messages[-1]
            return text[max(0, text.rfind((last.content or last.reasoning).strip())) :]
        if 0 < len(opening) < len(text) or not conversation.has_generation_prompt:
            return opening
        # Nobody wrote anything, or it is not known what: the difference is the generation prompt.
        try:
            before = plain(self._rendered(replace(conversation, has_generation_prompt=False)))
        except InvalidRequest:  # the template wants one
            return ""
        return text.removeprefix(before) if text.startswith(before) else ""

    def _compile(self) -> None:
        environment = TemplateEnvironment()
        self._globals = frozenset(environment.globals)
        try:
            source = self._hf.get_chat_template(self._given)
            self._compiled = self._compiled_for_tools = environment.compiled(source)
            self.source = source
        # The model still serves raw prompts; a conversation gets this error.
        except Exception as error:
            self._broken = error
        named = self._hf.chat_template
        if self._given is None and isinstance(named, dict) and "tool_use" in named:
            with suppress(jinja2.TemplateError):  # as if there were none
                self._compiled_for_tools = environment.compiled(named["tool_use"])

    def _rendered(self, conversation: Conversation) -> str:
        special = self._hf.special_tokens_map if self.marks_words else {}
        options = template_options(conversation.template_options, {*self._globals, *special})
        tools = _definitions(conversation.tools)
        written = Turns(conversation, self.forms, [] if self.shows_tools else tools)
        has_prompt = conversation.has_generation_prompt and not conversation.continues_last

        def render(turns: Sequence[Turn], tools: Sequence[Any]) -> str:
            return self._render(
                turns,
                tools=tainted(tools) if tools and self.shows_tools else None,
                add_generation_prompt=has_prompt,
                options=options,
            )

        try:
            return render(written.turns, tools)
        # A template is a program: it raises whatever it likes.
        except Exception as error:
            raise self._refusal(error, conversation, written, tools, render) from error

    def _refusal(
        self,
        error: Exception,
        conversation: Conversation,
        written: Turns,
        tools: Sequence[Any],
        render: Callable[[Sequence[Turn], Sequence[Any]], str],
    ) -> InvalidRequest:
        """For the client, with the tool or the message that makes the template raise the error."""
        if self._broken is not None:
            return InvalidRequest(self._complaint(error, "messages"), param="messages")

        def raises(num_turns: int, num_tools: int) -> bool:
            return _raises(error, render, written.turns[:num_turns], tools[:num_tools])

        num_turns, num_tools = len(written.turns), len(tools)
        if num_tools and self.shows_tools and not raises(num_turns, 0):
            number = _first(lambda count: raises(num_turns, count), num_tools)
            what = f"tools.{number} ({conversation.tools[number].name[:MAX_NAME]})"
            return InvalidRequest(self._complaint(error, what), param="tools")
        number = num_turns - 1
        if raises(number, num_tools):  # else it is the last one, however the conversation began
            number = _first(lambda count: raises(count, num_tools), num_turns)
        origin = written.origins[number]
        what = f"messages.{origin} ({conversation.messages[origin].role})"
        return InvalidRequest(self._complaint(error, what), param="messages")

    def _frame_of_tools(self) -> str:
        tool = Tool(TOOL_NAME, json.dumps(TOOL))
        for history in FRAMED:
            conversation = Conversation(history, (tool,), has_generation_prompt=False)
            with suppress(InvalidRequest):
                return frame_of(self.render(conversation))
        return ""

    def _problems(self) -> Iterator[str]:
        if self.trial.lost:
            yield self._loss()
        if self.trial.error is not None:
            yield self._complaint(self.trial.error, "a plain conversation")

    def _loss(self) -> str:
        return f"{self.name} loses the words of {', '.join(self.trial.lost)} messages"

    def _render(
        self,
        turns: Sequence[Turn],
        *,
        tools: Sequence[Any] | None = None,
        add_generation_prompt: bool = True,
        options: Mapping[str, Any] = NO_OPTIONS,
    ) -> str:
        if self._broken is not None:
            raise self._broken.with_traceback(None)
        template = self._compiled if tools is None else self._compiled_for_tools
        if template is None:
            shown = {} if tools is None else {"tools": untainted(list(tools))}
            rendered = self._hf.apply_chat_template(
                untainted(list(turns)),
                chat_template=self._given,
                tokenize=False,
                add_generation_prompt=add_generation_prompt,
                **shown,
                **untainted(dict(options)),
            )
            return str(rendered)
        return template.render(
            messages=list(turns),
            tools=tools,
            documents=None,
            add_generation_prompt=add_generation_prompt,
            **self._hf.special_tokens_map,
            **options,
        )

    def _complaint(self, error: Exception, what: str) -> str:
        text = str(error)[:MAX_COMPLAINT] or "no reason given"
        if isinstance(error, jinja2.TemplateSyntaxError):
            return f"{self.name} does not parse (line {error.lineno}): {text}"
        if self._broken is not None:
            return f"{self.name} cannot be used: {text}"
        if isinstance(error, jinja2.TemplateError):
            return f"{self.name} refuses {what}: {text}"
        lines = [n for frame, n in walk_tb(error.__traceback__)
                 if frame.f_code.co_filename == TEMPLATE_FILE]  # fmt: skip
        where = f" (line {lines[-1]})" if lines else ""
        return f"{self.name} fails on {what}{where}: {type(error).__name__}: {text}"


def _name(hf_tokenizer: Any, given: str | None) -> str:
    if given is not None:
        return "the chat template of model.toml"
    if isinstance(hf_tokenizer.chat_template, dict):
        return "the model's chat template 'default'"
    return "the model's chat template"


def _definitions(tools: Sequence[Tool]) -> list[Any]:
    """The definitions as JSON-like values.

    Raises:
        InvalidRequest: one is no JSON.
    """
    definitions = []
    for number, tool in enumerate(tools):
        try:
            definitions.append(json.loads(tool.definition))
        except (ValueError, RecursionError) as error:
            raise InvalidRequest(
                f"tools.{number} cannot be read: {error}", param=f"tools.{number}"
            ) from None
    return definitions


def _raises(error: Exception, render: Callable[..., str], *args: Any) -> bool:
    """Whether rendering this raises the same error."""
    try:
        render(*args)
    except Exception as other:
        # Where the recursion is noticed, and so what is said of it, depends on the stack.
        is_same = str(other) == str(error) or isinstance(error, RecursionError)
        return is_same and type(other) is type(error)
    return False


def _first(raises: Callable[[int], bool], count: int) -> int:
    """The number of the first of `count` things with which rendering raises; with all it does."""
    first, last = 0, count - 1
    while first < last:
        middle = (first + last) // 2
        first, last = (first, middle) if raises(middle + 1) else (middle + 1, last)
    return last
