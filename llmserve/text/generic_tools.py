"""Tools, calls and results as text, for models whose chat template shows none.

The form is that of Hermes, which most models have seen. What we write has no marks, so that a
vocabulary's own tokens for the tags are used; what callers wrote is `Tainted`.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, Final

from llmserve.text.call_arguments import NO_ARGUMENTS, arguments_object
from llmserve.text.taint import MARK, Tainted, concat

BEFORE: Final = """\
Functions that you may call, as JSON, one per line:
<tools>
"""
AFTER: Final = """
</tools>
To call one, write its name and its arguments as JSON between these tags, for each call anew:
<tool_call>
{"name": "function name", "arguments": {"argument name": "value"}}
</tool_call>
What it returns is shown to you between <tool_response> and </tool_response>."""


def listing(tools: Sequence[Any]) -> str:
    """What the model is told about these definitions (JSON-like values)."""
    lines = "\n".join(json.dumps(tool, ensure_ascii=False) for tool in tools)
    return concat((BEFORE, Tainted(lines), AFTER))


def call(name: str, arguments: str, mark: bytes = MARK) -> str:
    """One call. Arguments that are no JSON object are shown as a string."""
    given = arguments.strip() or NO_ARGUMENTS
    if arguments_object(given) is None:
        given = json.dumps(arguments, ensure_ascii=False)
    written = f'{{"name": {json.dumps(name, ensure_ascii=False)}, "arguments": {given}}}'
    body = Tainted(written, mark * len(written))
    return concat(("<tool_call>\n", body, "\n</tool_call>"))


def result(content: str) -> str:
    """What one call returned."""
    return concat(("<tool_response>\n", content, "\n</tool_response>"))
