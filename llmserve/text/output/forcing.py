"""Grammars that make an answer call tools, in the syntax of its model."""

from __future__ import annotations

from collections.abc import Sequence

from llmserve.domain import Tool, ToolChoice, ToolMode
from llmserve.text.output.calls.form import CallForm
from llmserve.text.output.lark import Lark

LINES = "/\\n{0,2}/"
"""What models write between reasoning and a call."""


def marked_grammar(
    lark: Lark, form: CallForm, tools: Sequence[Tool], choice: ToolChoice, *, follows: bool
) -> str:
    """The grammar of an answer in which calls stand between delimiters.

    Where calls are required, the answer is calls and nothing else; `follows` reasoning: after an
    empty line perhaps. Otherwise it is free up to a trigger, after which one of the calls must
    come; if it may call only once, it ends with the call.
    """
    after = form.rules(lark, tools, is_parallel=choice.is_parallel)
    begin = form.triggers[0] if form.triggers and not form.is_bare else ""
    region = lark.rule("region", f"{lark.literal(begin)} {after}")
    if choice.mode is ToolMode.REQUIRED:
        more = ""
        if choice.is_parallel and form.between is not None:
            more = f"({lark.literal(form.between)} {region})*"
        return lark.grammar(f"{LINES if follows else ''} {region} {more}")
    text = lark.rule("text", "/(.|\\n)*/")
    if form.is_bare:
        other = "[" if "[" in after[:4] else "{"
        return lark.grammar(f"{region} | /([^\\s\\{other}](.|\\n)*)?/")
    is_token = lark.is_token(begin)
    called = f"{text} {region}" if is_token else f"{lark.text_until(begin)} {after}"
    once = lark.rule("called", called)
    return lark.grammar(f"{once}* {text}" if choice.is_parallel else f"{once} | {text}")
