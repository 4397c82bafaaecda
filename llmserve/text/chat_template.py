"""One model's chat template: turns a conversation into the prompt's text. Knows no tokens."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from traceback import walk_tb
from typing import Any, Final

import jinja2
from transformers import PreTrainedTokenizerBase

from llmserve.domain import Conversation, Message
from llmserve.errors import InvalidRequest
from llmserve.text.taint import Tainted, untainted
from llmserve.text.template_environment import TemplateEnvironment
from llmserve.text.template_trial import TemplateTrial, Turn, try_out

MAX_COMPLAINT: Final = 300
"""At most so many characters of a template's own error are shown to a client."""

TEMPLATE_FILE: Final = "<template>"
"""What Jinja calls a template without a file, in tracebacks."""


class ChatTemplate:
    """Renders conversations; tried out on construction. May be used from any thread.

    Attributes:
        name: its name in errors.
        marks_words: whether it marks callers' characters; a tokenizer that has its own renderer
            does not.
        trial: which formats the template takes, and what it does with plain conversations.
        problems: what an operator should know about that.
    """

    def __init__(self, hf_tokenizer: Any, given: str | None = None) -> None:
        """`given` replaces the tokenizer's own template."""
        self._hf = hf_tokenizer
        self._given = given
        self._compiled: jinja2.Template | None = None
        self._broken: Exception | None = None
        self.name = _name(hf_tokenizer, given)
        self.marks_words: bool = (
            type(hf_tokenizer).apply_chat_template is PreTrainedTokenizerBase.apply_chat_template
        )
        if self.marks_words:
            try:
                source = hf_tokenizer.get_chat_template(given)
                self._compiled = TemplateEnvironment().compiled(source)
            # The model still serves raw prompts; a conversation gets this error.
            except Exception as error:
                self._broken = error
        self.trial: TemplateTrial = try_out(self._render)
        self.problems = tuple(self._problems())

    def render(self, conversation: Conversation) -> str:
        """The conversation up to where its answer begins, `Tainted` where callers wrote it.

        Raises:
            InvalidRequest: the template raised an error, or leaves out what users say.
        """
        if "user" in self.trial.lost:
            raise InvalidRequest(
                f"{self._loss()}; use /v1/completions or /generate, or give the model another one "
                "with `chat_template` in its model.toml",
                param="messages",
            )
        turns = [self._turn(message) for message in conversation.messages]
        try:
            return self._render(turns)
        # A template is a program: it raises whatever it likes.
        except Exception as error:
            complaint = self._complaint(error, self._at_fault(turns, error))
            raise InvalidRequest(complaint, param="messages") from error

    def _problems(self) -> Iterator[str]:
        if self.trial.lost:
            yield self._loss()
        if self.trial.error is not None:
            yield self._complaint(self.trial.error, "a plain conversation")

    def _loss(self) -> str:
        return f"{self.name} loses the words of {', '.join(self.trial.lost)} messages"

    def _turn(self, message: Message) -> Turn:
        """A message for the template. The caller's text is marked; the role is the server's."""
        formats = self.trial.formats
        content = formats.get(message.role, formats["system"]).content(Tainted(message.content))
        name = {"name": Tainted(message.name)} if message.name else {}
        return {"role": message.role, "content": content} | name

    def _render(self, turns: Sequence[Turn], *, add_generation_prompt: bool = True) -> str:
        if self._broken is not None:
            raise self._broken.with_traceback(None)
        if self._compiled is None:
            rendered = self._hf.apply_chat_template(
                untainted(list(turns)),
                chat_template=self._given,
                tokenize=False,
                add_generation_prompt=add_generation_prompt,
            )
            return str(rendered)
        return self._compiled.render(
            messages=list(turns),
            tools=None,
            documents=None,
            add_generation_prompt=add_generation_prompt,
            **self._hf.special_tokens_map,
        )

    def _at_fault(self, turns: Sequence[Turn], error: Exception) -> str:
        """The first message that makes the template raise this error."""
        if self._broken is not None:
            return "messages"

        def raises(count: int) -> bool:
            try:
                self._render(turns[:count])
            except Exception as other:
                return (type(other), str(other)) == (type(error), str(error))
            return False

        first, last = 0, len(turns) - 1
        if raises(last):  # else it is the last one, however the conversation began
            while first < last:
                middle = (first + last) // 2
                first, last = (first, middle) if raises(middle + 1) else (middle + 1, last)
        return f"messages.{last} ({turns[last]['role']})"

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
