"""The arguments of a call in a history: the JSON text that a model wrote, more or less."""

from __future__ import annotations

import json
from typing import Any, Final

from llmserve.text.taint import MARK, tainted

NO_ARGUMENTS: Final = "{}"


def arguments_object(text: str, mark: bytes = MARK) -> dict[str, Any] | None:
    """The object that the text is, its strings `Tainted`; blank text is an empty one.

    `None` if it is something else, has half of a surrogate pair, which no tokenizer takes, or is
    nested so deeply that Python does not follow.
    """
    try:
        value = json.loads(text.strip() or NO_ARGUMENTS)
        if "\\u" in text:
            json.dumps(value, ensure_ascii=False).encode()
        return tainted(value, mark) if isinstance(value, dict) else None
    except (ValueError, RecursionError):
        return None
