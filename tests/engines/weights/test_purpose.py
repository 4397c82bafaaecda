"""What a model is for, by its files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from llmserve.domain import EncodingPurpose, EncodingSpec, EngineKind, ModelSpec
from llmserve.engines.weights.purpose import EMBEDDING, purposes_of, transformer_folder

SCORE = (EncodingPurpose.SCORE,)
CLASSES = (EncodingPurpose.CLASSIFICATION,)


def spec_of(folder: Path, files: dict[str, Any], **fields: Any) -> ModelSpec:
    for name, content in files.items():
        (folder / name).write_text(json.dumps(content))
    return ModelSpec("m", path=folder, **fields)


@pytest.mark.parametrize(
    ("config", "purposes"),
    [
        ({"architectures": ["LlamaForCausalLM"], "model_type": "llama"}, ()),
        ({"architectures": ["BertLMHeadModel"], "model_type": "bert"}, ()),
        ({"architectures": ["BertModel"], "model_type": "bert", "is_decoder": True}, ()),
        ({"architectures": ["MistralModel"], "model_type": "mistral"}, ()),
        ([], ()),
        ({"architectures": ["BertModel"], "model_type": "bert"}, EMBEDDING),
        ({"architectures": ["RobertaForMaskedLM"], "model_type": "roberta"}, EMBEDDING),
        ({"model_type": "modernbert"}, EMBEDDING),
        ({"architectures": ["Qwen3ForSequenceClassification"], "id2label": {"0": "x"}}, SCORE),
        ({"architectures": ["BertForSequenceClassification"], "num_labels": 1}, SCORE),
        ({"architectures": ["BertForSequenceClassification"]}, CLASSES),
        ({"architectures": ["BertForSequenceClassification"], "id2label": {"0": 1, "1": 2}},
         CLASSES),
    ],
)  # fmt: skip
def test_by_its_config(tmp_path: Path, config: Any, purposes: tuple[EncodingPurpose, ...]) -> None:
    assert purposes_of(spec_of(tmp_path, {"config.json": config})) == purposes


def test_by_its_modules(tmp_path: Path) -> None:
    config = {"architectures": ["Qwen3ForCausalLM"], "model_type": "qwen3"}
    spec = spec_of(tmp_path, {"config.json": config, "modules.json": []})
    assert purposes_of(spec) == EMBEDDING
    settings = {"model_type": "CrossEncoder"}
    assert purposes_of(spec_of(tmp_path, {"config_sentence_transformers.json": settings})) == SCORE


def test_by_its_operator_s_word(tmp_path: Path) -> None:
    config = {"architectures": ["Qwen3ForCausalLM"], "model_type": "qwen3"}
    for fields, purposes in (
        ({}, ()),
        ({"engine": EngineKind.ENCODING}, EMBEDDING),
        ({"encoding": EncodingSpec()}, EMBEDDING),
    ):
        assert purposes_of(spec_of(tmp_path, {"config.json": config}, **fields)) == purposes
    spec = spec_of(tmp_path, {"modules.json": []}, engine=EngineKind.THREADED)
    assert purposes_of(spec) == ()


def test_what_is_not_here_is_not_known() -> None:
    assert purposes_of(ModelSpec("m", hub_id="org/m")) == ()


def test_where_its_weights_are(tmp_path: Path) -> None:
    assert transformer_folder(tmp_path) == tmp_path
    for modules, place in (
        ([{"path": "0_Transformer"}], tmp_path / "0_Transformer"),
        ([{"path": "../out"}], tmp_path),
        ([{}], tmp_path),
        ({}, tmp_path),
    ):
        (tmp_path / "modules.json").write_text(json.dumps(modules))
        assert transformer_folder(tmp_path) == place
