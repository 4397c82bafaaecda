"""Downloads, against a hub on loopback."""

from __future__ import annotations

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest
from fake_hub import FakeHub, running_hub
from server import running_server

from llmserve.domain import LoadProgress
from llmserve.errors import ConfigurationError
from llmserve.registry.catalog import Catalog
from llmserve.registry.hub import pull, pull_adapter

WEIGHTS = b"w" * 3_000_000


@pytest.fixture
def hub(
    monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[FakeHub]:
    # Without a cache of its own a test could be helped by what an earlier one left.
    cache = tmp_path_factory.mktemp("hub-cache")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(cache))
    with running_hub() as running:
        running.repositories["org/name"] = {
            "config.json": b"{}",
            "model.safetensors": WEIGHTS,
            "pytorch_model.bin": b"never wanted",
        }
        yield running


def test_what_the_hub_does_not_have_is_said(hub: FakeHub, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="the hub has no org/other"):
        pull("org/other", tmp_path, endpoint=hub.url)
    with pytest.raises(ConfigurationError, match="no revision 'v9'"):
        pull("org/name", tmp_path, revision="v9", endpoint=hub.url)
    assert not list(tmp_path.glob("[!.]*"))


@pytest.mark.parametrize("hub_id", ["../x", "org/..", "/etc", "a/b/c", "", ".hidden", "a\\b"])
def test_what_is_no_hub_id_is_refused_before_anything(tmp_path: Path, hub_id: str) -> None:
    with pytest.raises(ConfigurationError, match="not a hub id"):
        pull(hub_id, tmp_path, endpoint="http://127.0.0.1:9")


def test_a_gated_repository_wants_a_token(hub: FakeHub, tmp_path: Path) -> None:
    hub.gated.add("org/name")
    with pytest.raises(ConfigurationError, match="LLMSERVE_HF_TOKEN"):
        pull("org/name", tmp_path, endpoint=hub.url)
    assert pull("org/name", tmp_path, endpoint=hub.url, token=hub.token).is_dir()


def test_a_taken_folder_is_not_touched(hub: FakeHub, tmp_path: Path) -> None:
    (tmp_path / "name").mkdir()
    (tmp_path / "name" / "mine").write_text("precious")
    with pytest.raises(ConfigurationError, match="is not a download of org/name"):
        pull("org/name", tmp_path, endpoint=hub.url)
    assert (tmp_path / "name" / "mine").read_text() == "precious"


def test_a_repositorys_own_manifest_is_not_obeyed(hub: FakeHub, tmp_path: Path) -> None:
    hub.repositories["org/name"]["model.toml"] = b"trust_remote_code = true"
    folder = pull("org/name", tmp_path, endpoint=hub.url)
    assert not (folder / "model.toml").exists()
    assert not Catalog(tmp_path).resolve("name").trust_remote_code


def test_workers_that_pull_at_once_download_once(hub: FakeHub, tmp_path: Path) -> None:
    with ThreadPoolExecutor(3) as pool:
        pulls = [pool.submit(pull, "org/name", tmp_path, endpoint=hub.url) for _ in range(3)]
    assert {p.result() for p in pulls} == {tmp_path / "name"}
    downloads = [r for r in hub.requests if r[0] == "GET" and r[1].endswith("model.safetensors")]
    assert len(downloads) == 1


def test_a_download_is_whole_reports_progress_and_is_not_repeated(
    hub: FakeHub, tmp_path: Path
) -> None:
    seen: list[LoadProgress] = []
    folder = pull("org/name", tmp_path, endpoint=hub.url, progress=seen.append)
    assert folder == tmp_path / "name"
    assert (folder / "model.safetensors").read_bytes() == WEIGHTS
    assert not (folder / "pytorch_model.bin").exists()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["name"]
    fractions = [p.fraction or 0.0 for p in seen]
    assert fractions == sorted(fractions)
    assert fractions[-1] == 1.0
    asked = len(hub.requests)
    assert pull("org/name", tmp_path, endpoint=hub.url) == folder
    assert len(hub.requests) == asked


SHARDS = {"model-1.safetensors": b"a" * 500, "model-2.safetensors": b"b" * 700}
INDEX = json.dumps(
    {"weight_map": {"x": "model-1.safetensors", "y": "model-2.safetensors"}}
).encode()


def test_only_the_weights_of_the_index_are_downloaded(hub: FakeHub, tmp_path: Path) -> None:
    strays = dict.fromkeys(
        ("consolidated.safetensors", "original/consolidated.00.pth", "pytorch_model.bin",
         "pytorch_model.bin.index.json", "model.fp16.safetensors", "onnx/model.onnx",
         "adapter_model.safetensors", "model [q4].gguf", "optimizer.pt"),
        b"x" * 100_000,
    )  # fmt: skip
    wanted = SHARDS | {
        "config.json": b"{}",
        "model.safetensors.index.json": INDEX,
        "onnx/a.md": b"a",
    }
    hub.repositories["org/name"] = strays | wanted
    seen: list[LoadProgress] = []
    folder = pull("org/name", tmp_path, endpoint=hub.url, progress=seen.append)
    found = {p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file()}
    assert found == {*wanted, ".hub.json"}
    assert not [r for r in hub.requests if r[0] == "GET" and r[1].rpartition("/")[2] in strays]
    assert seen[-1].fraction == 1.0


def test_the_weights_of_modules_are_downloaded_too(hub: FakeHub, tmp_path: Path) -> None:
    paths = ["", "1_Pooling", "2_Dense", "3_Dense"]
    wanted = {
        "config.json": b"{}",
        "modules.json": json.dumps([{"path": path} for path in paths]).encode(),
        "model.safetensors": WEIGHTS,
        "1_Pooling/config.json": b"{}",
        "2_Dense/model.safetensors": b"dense",
        "3_Dense/pytorch_model.bin": b"dense, too",
    }
    strays = dict.fromkeys(("pytorch_model.bin", "2_Dense/pytorch_model.bin", "onnx/m.onnx"), b"")
    hub.repositories["org/encoder"] = wanted | strays
    folder = pull("org/encoder", tmp_path, endpoint=hub.url)
    found = {p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file()}
    assert found == {*wanted, ".hub.json"}


def test_of_a_repository_of_gguf_files_one_is_downloaded(hub: FakeHub, tmp_path: Path) -> None:
    files = {"x-Q4_0.gguf": b"four", "x-Q8_0.gguf": b"eight", "README.md": b"x"}
    hub.repositories["org/x-GGUF"] = files
    folder = pull("org/x-GGUF", tmp_path, gguf_file="x-Q4_0.gguf", endpoint=hub.url)
    assert folder == tmp_path / "x-Q4_0"
    assert {p.name for p in folder.iterdir()} == {"x-Q4_0.gguf", "README.md", ".hub.json"}
    other = pull("org/x-GGUF", tmp_path, gguf_file="x-Q8_0.gguf", endpoint=hub.url)
    assert (other / "x-Q8_0.gguf").read_bytes() == b"eight"
    hub.repositories["org/x-GGUF"] = {}
    assert pull("org/x-GGUF", tmp_path, gguf_file="x-Q4_0.gguf", endpoint=hub.url) == folder
    with pytest.raises(ConfigurationError, match="is not a download of"):
        pull("org/x-Q4_0", tmp_path, endpoint=hub.url)


def test_pickled_weights_are_downloaded_without_what_training_left(
    hub: FakeHub, tmp_path: Path
) -> None:
    wanted = {"config.json": b"{}", "pytorch_model.bin": b"w" * 100}
    hub.repositories["org/name"] = wanted | {"training_args.bin": b"x", "optimizer.bin": b"x" * 900}
    folder = pull("org/name", tmp_path, endpoint=hub.url)
    assert {p.name for p in folder.iterdir()} == {*wanted, ".hub.json"}


@pytest.mark.parametrize(
    ("files", "told"),
    [
        (
            {"model.safetensors.index.json": INDEX, "model-1.safetensors": b"a"},
            "model-2.safetensors",
        ),
        ({"model.onnx": b"x"}, "neither model.safetensors nor pytorch_model.bin"),
        ({"a-Q4_0.gguf": b"x", "a-Q8_0.gguf": b"x"}, "2 GGUF files .*; name one"),
        ({"a-00001-of-00002.gguf": b"x"}, "one of 2 parts"),
    ],
)
def test_a_repository_without_whole_weights_is_refused_before_its_files_come(
    hub: FakeHub, tmp_path: Path, files: dict[str, bytes], told: str
) -> None:
    hub.repositories["org/name"] = {"config.json": b"{}"} | files
    with pytest.raises(ConfigurationError, match=told):
        pull("org/name", tmp_path, endpoint=hub.url)
    assert not [
        r for r in hub.requests if r[0] == "GET" and r[1].endswith((".gguf", ".onnx", "ors"))
    ]


def test_a_cut_download_ends_whole(hub: FakeHub, tmp_path: Path) -> None:
    hub.break_after = 1_000_000
    folder = pull("org/name", tmp_path, endpoint=hub.url)
    assert (folder / "model.safetensors").read_bytes() == WEIGHTS


def test_a_download_that_fails_for_good_leaves_nothing_that_looks_whole(
    hub: FakeHub, tmp_path: Path
) -> None:
    hub.break_after, hub.is_gone_after_break = 1_000_000, True
    kept = hub.repositories["org/name"]
    with pytest.raises(ConfigurationError, match="org/name"):
        pull("org/name", tmp_path, endpoint=hub.url)
    assert not (tmp_path / "name").exists()
    assert Catalog(tmp_path).names() == []
    hub.repositories["org/name"] = kept
    assert pull("org/name", tmp_path, endpoint=hub.url).is_dir()


@pytest.mark.slow
def test_an_adapter_comes_without_what_lies_beside_it_and_each_revision_by_itself(
    hub: FakeHub, tmp_path: Path
) -> None:
    files = {"adapter_config.json": b"{}", "adapter_model.safetensors": WEIGHTS}
    hub.repositories["org/lora"] = files | {"optimizer.pt": b"never", "model.toml": b"never"}
    folder = pull_adapter("org/lora", tmp_path, endpoint=hub.url)
    names = {path.name for path in folder.iterdir()}
    assert names == {*files, ".hub.json"}
    other = pull_adapter("org/lora", tmp_path, revision="main", endpoint=hub.url)
    assert other != folder
    asked = len(hub.requests)
    assert pull_adapter("org/lora", tmp_path, endpoint=hub.url) == folder
    assert len(hub.requests) == asked
    assert Catalog(tmp_path).names() == []


def test_a_repository_that_is_no_adapter_is_refused_before_its_files_come(
    hub: FakeHub, tmp_path: Path
) -> None:
    with pytest.raises(ConfigurationError, match=r"an adapter has adapter_config\.json and"):
        pull_adapter("org/name", tmp_path, endpoint=hub.url)
    assert not any("resolve" in path for _, path, _ in hub.requests)


def test_adapters_in_a_models_repository_are_not_served(hub: FakeHub, tmp_path: Path) -> None:
    hub.repositories["org/name"]["adapters/a/adapter_config.json"] = b"{}"
    assert not (pull("org/name", tmp_path, endpoint=hub.url) / "adapters").exists()


def test_serving_a_hub_id_downloads_it_first(
    hub: FakeHub, tiny_model: Path, tmp_path: Path
) -> None:
    files = {f.name: f.read_bytes() for f in tiny_model.iterdir() if f.is_file()}
    hub.repositories["org/tiny"] = files
    settings = {"hf_endpoint": hub.url, "models_dir": tmp_path / "models"}
    with running_server(tmp_path, "org/tiny", **settings) as server:
        for named in ({}, {"model": "tiny"}, {"model": "org/tiny"}):
            body = {"prompt": "hi"} | named
            answer = httpx.post(server.url + "/generate", json=body, timeout=60).json()
            assert answer["model"] == "tiny"
        assert httpx.get(server.url + "/v1/models/org/tiny").json()["status"] == "ready"
    assert (tmp_path / "models" / "tiny" / "model.safetensors").exists()
