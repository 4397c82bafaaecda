"""The chat template that a folder keeps for its processor, as models that see often do."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

from llmserve.engines.weights.purpose import read_json

FILES: Final = ("chat_template.json", "processor_config.json")
KEY: Final = "chat_template"


def take_processor_template(hf_tokenizer: Any, folder: Path) -> None:
    """Give it to the tokenizer, if that has none of its own."""
    if getattr(hf_tokenizer, KEY, None):
        return
    for name in FILES:
        content = read_json(folder / name)
        template = content.get(KEY) if isinstance(content, dict) else None
        if template and isinstance(template, str):
            hf_tokenizer.chat_template = template
            return
