"""Puts the parser of one answer together."""

from __future__ import annotations

import random
from collections.abc import Sequence

from llmserve.domain import Tool
from llmserve.text.output.answer_parser import AnswerParser
from llmserve.text.output.pieces import Pieces
from llmserve.text.output.source import Source
from llmserve.text.output.syntax import OutputSyntax
from llmserve.text.output.tool_calls import ToolCalls


def new_parser(
    syntax: OutputSyntax,
    tools: Sequence[Tool] | None,
    opening: str,
    randomness: random.Random,
    end_id: int | None,
) -> AnswerParser:
    """The parser of one answer, which calls these tools; without them calls are text."""
    source, pieces = Source(), Pieces()
    calls = None
    if tools is not None:
        calls = ToolCalls(tools, pieces.add_call, syntax.new_ids(randomness))
    reader = syntax.reader(source, pieces, calls, opening)
    return AnswerParser(source, pieces, calls, reader, end_id)
