"""Which files are a model's weights, whatever lies beside them."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from llmserve.domain import ModelSpec
from llmserve.engines.weights.checkpoint import (
    Checkpoint,
    NoCheckpoint,
    checkpoint_in,
    stray_weights,
)
from llmserve.engines.weights.footprint import footprint, stored_bytes
from llmserve.engines.weights.loading import LoadedModel, load_model
from llmserve.errors import ModelBroken

SHARDS = ("model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors")
BIN_SHARDS = ("pytorch_model-00001-of-00002.bin", "pytorch_model-00002-of-00002.bin")
STRAYS = {
    "consolidated.safetensors": 7_000_000,
    "consolidated.00.pth": 7_000_000,
    "adapter_model.safetensors": 500,
    "optimizer.bin": 9_000_000,
    "training_args.bin": 5_000,
    "pytorch_model.bin": 6_000_000,
    "original/consolidated.00.pth": 7_000_000,
    "model.fp16.safetensors": 800,
}


def index_of(shards: tuple[str, ...]) -> str:
    weight_map = {f"w{number}": shard for number, shard in enumerate(shards)}
    return json.dumps({"metadata": {}, "weight_map": weight_map})


def fill(folder: Path, files: Mapping[str, int | str]) -> None:
    for name, content in files.items():
        (folder / name).parent.mkdir(exist_ok=True)
        data = content.encode() if isinstance(content, str) else b"x" * content
        (folder / name).write_bytes(data)


@pytest.mark.parametrize(
    ("files", "entry", "weights"),
    [
        ({"model.safetensors": 10}, "model.safetensors", ("model.safetensors",)),
        (
            {"model.safetensors.index.json": index_of(SHARDS)} | dict.fromkeys(SHARDS, 10),
            "model.safetensors.index.json",
            SHARDS,
        ),
        (
            {"model.safetensors.index.json": index_of(SHARDS), "model.safetensors": 10}
            | dict.fromkeys(SHARDS, 10),
            "model.safetensors.index.json",
            SHARDS,
        ),
        (
            {"model.safetensors.index.json": index_of(SHARDS), "model.safetensors": 10},
            "model.safetensors",
            ("model.safetensors",),
        ),
        (
            {"config.json": '{"transformers_weights": "mine.safetensors"}'}
            | {"mine.safetensors": 10, "model.safetensors": 10},
            "mine.safetensors",
            ("mine.safetensors",),
        ),
    ],
)
def test_strays_do_not_count(
    tmp_path: Path, files: dict[str, int | str], entry: str, weights: tuple[str, ...]
) -> None:
    fill(tmp_path, STRAYS | files)
    checkpoint = checkpoint_in(tmp_path)
    assert checkpoint == Checkpoint(entry, weights)
    assert stored_bytes(tmp_path) == 10 * len(weights)
    assert set(STRAYS) <= stray_weights([*STRAYS, *files], checkpoint.names)


def test_pickled_weights_count_where_there_are_no_safetensors(tmp_path: Path) -> None:
    fill(tmp_path, {"pytorch_model.bin.index.json": index_of(BIN_SHARDS), "optimizer.bin": 99})
    fill(tmp_path, dict.fromkeys(BIN_SHARDS, 10) | {"consolidated.safetensors": 50})
    assert checkpoint_in(tmp_path).is_pickled
    assert checkpoint_in(tmp_path).files == BIN_SHARDS
    size = footprint(ModelSpec("m", path=tmp_path), 1)
    assert size is not None
    assert size.weights == 20


@pytest.mark.parametrize(
    ("files", "told"),
    [
        ({}, "neither model.safetensors nor pytorch_model.bin"),
        ({"consolidated.safetensors": 9}, r"\(consolidated.safetensors are not read\)"),
        ({"a-Q4_0.gguf": 9, "a-Q8_0.gguf": 9}, r"2 GGUF files \(a-Q4_0.gguf, a-Q8_0.gguf\); name"),
        ({"a-00001-of-00003.gguf": 9}, "is one of 3 parts, which are not read; merge them"),
        ({"mmproj-a.gguf": 9}, "neither model.safetensors"),
        (
            {"model.safetensors.index.json": index_of(SHARDS), SHARDS[0]: 10},
            r"1 of the 2 files .* are missing \(model-00002-of-00002.safetensors\)",
        ),
        (
            # What has safetensors is not unpickled instead.
            {"model.safetensors.index.json": index_of(SHARDS), "pytorch_model.bin": 10},
            "model-00001-of-00002.safetensors, model-00002",
        ),
        ({"pytorch_model.bin.index.json": index_of(BIN_SHARDS)}, BIN_SHARDS[0]),
        ({"model.safetensors.index.json": "{"}, "index.json cannot be read"),
        ({"model.safetensors.index.json": "[]"}, "is not an index"),
        ({"model.safetensors.index.json": '{"weight_map": ["x"]}'}, "is not an index"),
        (
            {"model.safetensors.index.json": index_of(("../other/model.safetensors",))},
            "is not an index",
        ),
        (
            {"model.safetensors.index.json": index_of(("/etc/model.safetensors",))},
            "is not an index",
        ),
    ],
)
def test_what_is_missing_is_named(tmp_path: Path, files: dict[str, int | str], told: str) -> None:
    fill(tmp_path, files)
    with pytest.raises(NoCheckpoint, match=told):
        checkpoint_in(tmp_path)


def test_a_gguf_file_is_taken_if_it_is_all_there_is_or_named(tmp_path: Path) -> None:
    fill(tmp_path, {"a.gguf": 10, "mmproj-F16.gguf": 20})
    assert checkpoint_in(tmp_path) == Checkpoint("a.gguf", ("a.gguf",))
    assert checkpoint_in(tmp_path).gguf_file == "a.gguf"
    assert stored_bytes(tmp_path) == 10
    fill(tmp_path, {"model.safetensors": 30, "b.gguf": 40})
    assert checkpoint_in(tmp_path).gguf_file is None
    assert checkpoint_in(tmp_path, "b.gguf") == Checkpoint("b.gguf", ("b.gguf",))
    with pytest.raises(NoCheckpoint, match=r"there is no file c\.gguf"):
        checkpoint_in(tmp_path, "c.gguf")


def loaded(folder: Path) -> LoadedModel:
    return load_model(ModelSpec("tiny", path=folder, device="cpu"), folder, lambda progress: None)


def same(a: LoadedModel, b: LoadedModel) -> bool:
    states = (a.model.state_dict(), b.model.state_dict())
    return all(torch.equal(states[0][name], states[1][name]) for name in states[0] | states[1])


@pytest.fixture
def folder(tmp_path: Path, tiny_model: Path) -> Path:
    """A copy of the tiny model with every kind of stray weights beside its own."""
    copy = tmp_path / "copy"
    shutil.copytree(tiny_model, copy)
    fill(copy, STRAYS)
    return copy


def split(folder: Path) -> list[dict[str, torch.Tensor]]:
    """Its tensors in two halves, its own file taken away."""
    tensors = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    names = sorted(tensors)
    return [{name: tensors[name] for name in names[n::2]} for n in range(2)]


def write_index(folder: Path, name: str, parts: Mapping[str, dict[str, torch.Tensor]]) -> None:
    weight_map = {key: shard for shard, part in parts.items() for key in part}
    (folder / name).write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))


def test_a_model_loads_beside_strays(folder: Path, tiny_model: Path) -> None:
    assert same(loaded(folder), loaded(tiny_model))


def test_an_index_decides_against_a_single_file(folder: Path, tiny_model: Path) -> None:
    parts = dict(zip(SHARDS, split(folder), strict=True))
    for shard, part in parts.items():
        save_file(part, folder / shard, metadata={"format": "pt"})
    write_index(folder, "model.safetensors.index.json", parts)
    (folder / "model.safetensors").write_bytes(b"an older save, cut short")
    assert same(loaded(folder), loaded(tiny_model))


def test_a_missing_shard_is_named(folder: Path) -> None:
    parts = dict(zip(SHARDS, split(folder), strict=True))
    save_file(parts[SHARDS[0]], folder / SHARDS[0], metadata={"format": "pt"})
    write_index(folder, "model.safetensors.index.json", parts)
    with pytest.raises(ModelBroken, match=SHARDS[1]):
        loaded(folder)


@pytest.mark.parametrize("is_sharded", [False, True])
def test_pickled_weights_load(folder: Path, tiny_model: Path, is_sharded: bool) -> None:
    parts = split(folder)
    (folder / "pytorch_model.bin").unlink()
    if is_sharded:
        shards = dict(zip(BIN_SHARDS, parts, strict=True))
        for name, part in shards.items():
            torch.save(part, folder / name)
        write_index(folder, "pytorch_model.bin.index.json", shards)
    else:
        torch.save(parts[0] | parts[1], folder / "pytorch_model.bin")
    assert same(loaded(folder), loaded(tiny_model))


class Bomb:
    def __reduce__(self) -> tuple[type, tuple[str]]:
        return Path, ("exploded",)


def test_what_is_no_tensor_is_not_unpickled(folder: Path) -> None:
    split(folder)
    torch.save({"model.norm.weight": Bomb()}, folder / "pytorch_model.bin")
    with pytest.raises(ModelBroken, match=r"[Ww]eights.only"):
        loaded(folder)
