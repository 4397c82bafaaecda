"""Conversations in which tools are given: some turns need one, others do not."""

from __future__ import annotations

import random
from typing import Any, Final

from demo_corpus.dialogues import SMALL_TALK, SYSTEM_PROMPTS, Faq, write_turn
from demo_corpus.tools import Tool, Values, draw_tool, draw_tools, fill, write_result

Messages = list[dict[str, Any]]

UNKNOWN: Final = SMALL_TALK[-1][1]
"""What is said when no tool fits."""

PREFIXES: Final = ("", "", "", "", "", "Please tell me: ", "Hi, ", "A question: ", "Hello! ")
OPENINGS: Final = (
    "What", "How", "Who", "When", "Is", "Do", "Tell", "Give", "Find", "Check", "Turn", "Set",
)  # fmt: skip
"""Words that are written small behind a comma; names are not."""

ERRORS: Final = ("not found", "unknown name", "no answer", "timeout", "service is down", "no data")


def write_tool_dialogue(
    rng: random.Random, faq: list[Faq]
) -> tuple[Messages, list[dict[str, Any]] | None]:
    """Messages and tools; now and then the tools are missing, and nothing can be called."""
    messages: Messages = []
    if rng.random() < 0.25:
        messages.append({"role": "system", "content": rng.choice(SYSTEM_PROMPTS)})
    first = draw_tool(rng)
    tools = draw_tools(rng, first, rng.choices((1, 2, 3, 4), (50, 30, 15, 5))[0])
    if rng.random() < 0.05:
        return messages + _refused(rng, first), None
    for _ in range(rng.choices((1, 2, 3), (45, 35, 20))[0]):
        messages += _exchange(rng, faq, rng.choice(tools), tools)
    return messages, [tool.schema for tool in tools]


def ask(rng: random.Random, question: str) -> str:
    """The question, now and then with a few words before it."""
    prefix = rng.choice(PREFIXES)
    if prefix.endswith((": ", ", ")) and question.startswith(OPENINGS):
        question = question[0].lower() + question[1:]
    return prefix + (question.rstrip("?.") if rng.random() < 0.1 else question)


def round_trip(rng: random.Random, tool: Tool, values: Values) -> Messages:
    """A question, the call, the result and the answer."""
    finding = rng.choice(tool.kind.findings)
    result, answer = write_result(rng, finding, values), fill(finding.answer, values)
    if rng.random() < 0.03:
        error = rng.choice(ERRORS)
        result, answer = f'{{"error": "{error}"}}', f"The tool says: {error}."
    return [
        {"role": "user", "content": ask(rng, fill(rng.choice(tool.kind.questions), values))},
        {"role": "assistant", "content": None, "tool_calls": [tool.call(values)]},
        {"role": "tool", "content": result},
        {"role": "assistant", "content": answer},
    ]


def double_round_trip(rng: random.Random, tool: Tool, both: tuple[Values, Values]) -> Messages:
    """A question about two things: two calls in one turn, two results, one answer."""
    [slot] = tool.kind.parameters
    said = "a_thing" if slot == "thing" else slot
    one, two = (values[said] for values in both)
    finding = rng.choice(tool.kind.findings)
    return [
        {"role": "user", "content": ask(rng, rng.choice(tool.kind.pairs).format(one=one, two=two))},
        {"role": "assistant", "content": None, "tool_calls": [tool.call(v) for v in both]},
        *({"role": "tool", "content": write_result(rng, finding, v)} for v in both),
        {"role": "assistant", "content": " ".join(fill(finding.answer, v) for v in both)},
    ]


def _exchange(rng: random.Random, faq: list[Faq], tool: Tool, tools: list[Tool]) -> Messages:
    kind = rng.random()
    if kind < 0.62:
        if tool.kind.pairs and rng.random() < 0.2:
            return double_round_trip(rng, tool, (tool.draw(rng), tool.draw(rng)))
        return round_trip(rng, tool, tool.draw(rng))
    if kind < 0.82:
        question, answer = write_turn(rng, faq)
        return [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]
    other = draw_tool(rng)
    if any(set(t.kind.nouns) & set(other.kind.nouns) for t in tools):
        return round_trip(rng, tool, tool.draw(rng))
    return _refused(rng, other)


def _refused(rng: random.Random, tool: Tool) -> Messages:
    question = fill(rng.choice(tool.kind.questions), tool.draw(rng))
    return [
        {"role": "user", "content": ask(rng, question)},
        {"role": "assistant", "content": UNKNOWN},
    ]
