"""The name of a model's files changes when they do."""

from __future__ import annotations

from pathlib import Path

import pytest

from llmserve.engines.weights.fingerprint import SAMPLE_BYTES, fingerprint, hash_of_files


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "model.safetensors").write_bytes(bytes(40 * SAMPLE_BYTES))
    (tmp_path / "README.md").write_text("hello")
    return tmp_path


def test_equal_files_have_equal_names(folder: Path) -> None:
    first = hash_of_files(folder, ["model.safetensors"])
    (folder / "README.md").write_text("other")
    assert hash_of_files(folder, ["model.safetensors"]) == first


@pytest.mark.parametrize("place", [0, 5, 20 * SAMPLE_BYTES, 40 * SAMPLE_BYTES - 1])
def test_a_byte_of_the_weights_changes_it_where_a_sample_is(folder: Path, place: int) -> None:
    first = hash_of_files(folder, ["model.safetensors"])
    with (folder / "model.safetensors").open("r+b") as file:
        step = 39 * SAMPLE_BYTES // 15  # from one sample's beginning to the next one's
        file.seek(min(place // step * step, 39 * SAMPLE_BYTES) + 32)
        file.write(b"x")
    assert hash_of_files(folder, ["model.safetensors"]) != first


def test_texts_and_the_length_count_too(folder: Path) -> None:
    names = {hash_of_files(folder, ["model.safetensors"])}
    (folder / "chat_template.jinja").write_text("x")
    names.add(hash_of_files(folder, ["model.safetensors"]))
    (folder / "model.safetensors").write_bytes(bytes(SAMPLE_BYTES // 2))
    names.add(hash_of_files(folder, ["model.safetensors"]))
    (folder / "model.safetensors").write_bytes(b"")
    names.add(hash_of_files(folder, ["model.safetensors"]))
    assert len(names) == 4


def test_the_engine_is_part_of_a_fingerprint() -> None:
    prints = {fingerprint("f", engine, "cpu") for engine in ("batching", "threaded")}
    assert len(prints) == 2
    assert all(len(one) == 13 and one.startswith("fp_") for one in prints)
