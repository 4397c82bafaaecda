"""What a folder says: first what is refused, by name."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from llmserve.domain import EncodingSpec
from llmserve.engines.encoding.files import EncoderFiles, check_scoring, read_files
from llmserve.engines.encoding.unsupported import UnsupportedEncoder

ST = "sentence_transformers.models."


def folder_of(tmp_path: Path, *types: str, **files: Any) -> Path:
    modules = [
        {"idx": number, "name": str(number), "path": f"{number}_m" if number else "", "type": kind}
        for number, kind in enumerate(types)
    ]
    (tmp_path / "modules.json").write_text(json.dumps(modules))
    for number in range(1, len(types)):
        (tmp_path / f"{number}_m").mkdir()
        (tmp_path / f"{number}_m" / "config.json").write_text("{}")
    for name, content in files.items():
        (tmp_path / f"{name}.json").write_text(json.dumps(content))
    return tmp_path


def write(file: Path, content: Any) -> None:
    file.write_text(json.dumps(content))


@pytest.mark.parametrize(
    ("types", "says"),
    [
        ((ST + "WordEmbeddings", ST + "Pooling"), "WordEmbeddings"),
        ((ST + "Transformer",), "second module is missing"),
        ((ST + "Transformer", ST + "Pooling", ST + "CNN"), "CNN"),
        ((ST + "Transformer", ST + "Router"), "Router"),
        (("custom_st.Transformer", ST + "Pooling"), "code of its own"),
        ((), "first module is missing"),
    ],
)
def test_unknown_modules_are_refused_by_name(
    tmp_path: Path, types: tuple[str, ...], says: str
) -> None:
    with pytest.raises(UnsupportedEncoder, match=says):
        read_files(folder_of(tmp_path, *types))


def test_unknown_settings_are_refused_by_name(tmp_path: Path) -> None:
    folder = folder_of(tmp_path, ST + "Transformer", ST + "Pooling", ST + "Dense")
    write(folder / "1_m" / "config.json", {"pooling_mode": "median"})
    with pytest.raises(UnsupportedEncoder, match="'median'"):
        read_files(folder)
    write(folder / "1_m" / "config.json", {})
    write(folder / "2_m" / "config.json", {"module_input_name": "token_embeddings"})
    with pytest.raises(UnsupportedEncoder, match="token_embeddings"):
        read_files(folder)
    write(folder / "sentence_bert_config.json", {"transformer_task": "fill-mask"})
    with pytest.raises(UnsupportedEncoder, match="fill-mask"):
        read_files(folder)
    modality = {"text": {"method": "get_text_features", "method_output_name": None}}
    write(folder / "sentence_bert_config.json", {"modality_config": modality})
    with pytest.raises(UnsupportedEncoder, match="get_text_features"):
        read_files(folder)


def test_rerankers_that_answer_yes_or_no_are_refused_by_name(tmp_path: Path) -> None:
    check_scoring(tmp_path)
    kinds = ("base.modules.transformer.Transformer", "cross_encoder.modules.logit_score.LogitScore")
    folder = folder_of(tmp_path, *(f"sentence_transformers.{kind}" for kind in kinds))
    with pytest.raises(UnsupportedEncoder, match="LogitScore: it scores by a word"):
        check_scoring(folder)


def test_no_folder_outside_is_read(tmp_path: Path) -> None:
    modules = [{"idx": 0, "path": "../elsewhere", "type": ST + "Transformer"}]
    write(tmp_path / "modules.json", modules)
    with pytest.raises(UnsupportedEncoder, match="outside its own"):
        read_files(tmp_path)
    (tmp_path / "modules.json").write_text("{")
    with pytest.raises(UnsupportedEncoder, match="not a list"):
        read_files(tmp_path)


def test_a_default_prompt_is_one_that_there_is(tmp_path: Path) -> None:
    with pytest.raises(UnsupportedEncoder, match=r"'q'.*none"):
        read_files(tmp_path, EncodingSpec(default_prompt="q"))


def test_everything_that_a_folder_says(tmp_path: Path) -> None:
    kinds = ("Transformer", "Pooling", "Dropout", "Dense", "Normalize")
    types = (f"sentence_transformers.sentence_transformer.modules.x.{kind}" for kind in kinds)
    folder = folder_of(
        tmp_path,
        *types,
        sentence_bert_config={"max_seq_length": 77, "do_lower_case": True},
        config_sentence_transformers={
            "prompts": {"query": "q: ", "document": None},
            "default_prompt_name": "query",
        },
    )
    write(
        folder / "1_m" / "config.json",
        {
            "pooling_mode_cls_token": True,
            "pooling_mode_mean_tokens": False,
            "pooling_mode_lasttoken": True,
            "include_prompt": False,
        },
    )
    files = read_files(folder)
    assert files.pooling == ("cls", "lasttoken")
    assert [layer.kind for layer in files.layers] == ["Dense"]
    assert (files.is_normalized, files.max_tokens, files.lowers_case) == (True, 77, True)
    assert (files.prompts, files.default_prompt) == ((("query", "q: "),), "query")
    assert (files.pools_prompt, files.warnings) == (False, ())


def test_an_operator_s_word_counts(tmp_path: Path) -> None:
    plain = read_files(tmp_path)
    assert plain.pooling == ("mean",)
    assert "no modules.json" in plain.warnings[0]
    spec = EncodingSpec(("cls",), is_normalized=True, prompts=(("q", "Q: "),), default_prompt="q")
    assert read_files(tmp_path, spec) == EncoderFiles(
        tmp_path, ("cls",), is_normalized=True, prompts=(("q", "Q: "),), default_prompt="q"
    )
