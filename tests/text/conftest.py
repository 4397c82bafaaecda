"""A small byte-level tokenizer, in which any character may span several tokens."""

from __future__ import annotations

from pathlib import Path

import pytest
from transformers import AutoTokenizer

from llmserve.text.tokenizer import Tokenizer


@pytest.fixture(scope="session")
def tokenizer(tiny_model: Path) -> Tokenizer:
    """Of the tiny model."""
    return Tokenizer(AutoTokenizer.from_pretrained(tiny_model))
