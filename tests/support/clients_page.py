"""The page of clients: its lines, for a server and a model of a test."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

PAGE: Final = Path(__file__).parents[2] / "llmserve" / "api" / "CLIENTS.md"
BLOCK: Final = re.compile(r"^```(\w+)\n(.*?)^```$", re.DOTALL | re.MULTILINE)


def blocks(language: str, url: str, model: str = "demo") -> list[str]:
    """All blocks in a language."""
    found = (code for kind, code in BLOCK.findall(PAGE.read_text()) if kind == language)
    return [
        re.sub(r"\bdemo\b", model, code.replace("http://127.0.0.1:8000", url)) for code in found
    ]
