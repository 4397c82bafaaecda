"""Where chat templates of models that see are found."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import pytest

from llmserve.engines.weights.processor_template import take_processor_template


def taken(folder: Path, own: str | None = None) -> str | None:
    tokenizer = SimpleNamespace(chat_template=own)
    take_processor_template(tokenizer, folder)
    return tokenizer.chat_template


@pytest.mark.parametrize("name", ["chat_template.json", "processor_config.json"])
def test_the_processors_template_is_the_tokenizers(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text(json.dumps({"chat_template": "{{ messages }}", "other": 1}))
    assert taken(tmp_path) == "{{ messages }}"


@pytest.mark.parametrize("own", ["mine", {"default": "mine"}])
def test_the_tokenizers_own_one_stays(tmp_path: Path, own: str) -> None:
    (tmp_path / "chat_template.json").write_text('{"chat_template": "other"}')
    assert taken(tmp_path, own) == own


@pytest.mark.parametrize("text", ["", "[]", '{"chat_template": 7}', '{"chat_template": ""}'])
def test_a_file_without_one_changes_nothing(tmp_path: Path, text: str) -> None:
    (tmp_path / "chat_template.json").write_text(text)
    assert taken(tmp_path) is None
