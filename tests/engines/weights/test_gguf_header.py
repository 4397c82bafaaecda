"""The beginning of GGUF files, whole and broken."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import quantised
from needs import needs_package

from llmserve.domain import ModelSpec
from llmserve.engines.weights.footprint import footprint
from llmserve.engines.weights.gguf_header import NoHeader, read_gguf_header

needs_package("gguf")


@pytest.fixture(scope="module")
def file(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return quantised.gguf_file(tiny_model, tmp_path_factory.mktemp("gguf") / "it.gguf", "Q8_0")


def test_numbers_and_sizes_are_read(file: Path, tiny_model: Path) -> None:
    header = read_gguf_header(file)
    config = json.loads((tiny_model / "config.json").read_text())
    assert header.values["general.architecture"] == "llama"
    assert header.number("block_count") == config["num_hidden_layers"]
    assert header.number("of tomorrow") == 0
    made = json.loads((tiny_model / "random_model.json").read_text())
    assert header.num_parameters == made["parameters"]
    assert 8 < header.num_bytes * 8 / header.num_parameters < 9


def test_the_cache_counts_as_for_the_same_model_elsewhere(file: Path, tiny_model: Path) -> None:
    specs = (ModelSpec("it", path=folder, dtype="bfloat16") for folder in (file.parent, tiny_model))
    packed, plain = (footprint(spec, 4) for spec in specs)
    assert packed is not None
    assert plain is not None
    assert packed.cache == plain.cache
    assert packed.weights == pytest.approx(plain.weights, rel=0.01)


@pytest.mark.parametrize("length", [0, 3, 4, 8, 20, 30, 200, 20_000])
def test_what_is_cut_off_is_no_header(file: Path, length: int, tmp_path: Path) -> None:
    (tmp_path / "cut.gguf").write_bytes(file.read_bytes()[:length])
    with pytest.raises(NoHeader, match=r"cut\.gguf cannot be read as GGUF"):
        read_gguf_header(tmp_path / "cut.gguf")


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"GGML" + bytes(20), "does not begin with GGUF"),
        (b"GGUF" + (1).to_bytes(4, "little") + bytes(16), "its version is 1"),
        (b"GGUF" + (3).to_bytes(4, "little") + b"\xff" * 16, "it is broken"),
    ],
)
def test_what_is_none_is_told(content: bytes, told: str, tmp_path: Path) -> None:
    (tmp_path / "it.gguf").write_bytes(content)
    with pytest.raises(NoHeader, match=told):
        read_gguf_header(tmp_path / "it.gguf")
