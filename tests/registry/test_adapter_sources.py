"""Adapters that operators name at run time: paths that lead elsewhere, nonsense; then the rest."""

from __future__ import annotations

from pathlib import Path

import pytest
from lora import write_config

from llmserve.domain import AdapterSource, ModelSpec
from llmserve.errors import InvalidRequest
from llmserve.registry.adapter_sources import AdapterSources
from llmserve.registry.catalog import Catalog
from llmserve.settings import Settings


@pytest.fixture
def base(tmp_path: Path) -> ModelSpec:
    write_config(tmp_path / "models" / "base" / "adapters" / "own")
    (tmp_path / "models" / "base" / "config.json").write_text("{}")
    for name in ("allowed", "forbidden"):
        write_config(tmp_path / name / "a")
    return Catalog.from_settings(Settings(models_dir=tmp_path / "models")).resolve("base")


def sources(folder: Path) -> AdapterSources:
    catalog = Catalog.from_settings(Settings(models_dir=folder / "models"))
    return AdapterSources(catalog.resolve, (folder / "models", folder / "allowed"))


@pytest.mark.parametrize(
    "path", ["forbidden/a", "allowed/../forbidden/a", "models/../forbidden/a", "allowed-not/a"]
)
def test_a_path_leads_nowhere_else(tmp_path: Path, base: ModelSpec, path: str) -> None:
    with pytest.raises(InvalidRequest, match="is not below models_dir"):
        sources(tmp_path).spec(base, AdapterSource("a", f"{tmp_path}/{path}"))


def test_neither_does_one_from_the_home_directory_or_a_relative_one(
    tmp_path: Path, base: ModelSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "forbidden"))
    monkeypatch.chdir(tmp_path)
    for path in ("~/a", "./forbidden/a", "forbidden/a"):
        with pytest.raises(InvalidRequest, match="is not below models_dir"):
            sources(tmp_path).spec(base, AdapterSource("a", path))
    spec = sources(tmp_path).spec(base, AdapterSource("a", "allowed/a"))
    assert spec.path == tmp_path / "allowed" / "a"


def test_links_are_the_operators_own(tmp_path: Path, base: ModelSpec) -> None:
    (tmp_path / "allowed" / "link").symlink_to(tmp_path / "forbidden" / "a")
    (tmp_path / "way").symlink_to(tmp_path / "allowed")
    for path in ("allowed/link", "way/a"):
        assert sources(tmp_path).spec(base, AdapterSource("a", f"{tmp_path}/{path}")).path


def test_what_is_no_path_is_refused(tmp_path: Path, base: ModelSpec) -> None:
    (tmp_path / "allowed" / "ring").symlink_to(tmp_path / "allowed" / "ring")
    for path in ("~nobody-at-all/x", "/a\0b", f"{tmp_path}/allowed/ring"):
        with pytest.raises(InvalidRequest, match="is no path"):
            sources(tmp_path).spec(base, AdapterSource("a", path))


def test_what_is_neither_a_path_nor_a_hub_id_is_refused(tmp_path: Path, base: ModelSpec) -> None:
    for source in ("a b", "org/a/b", "s3://bucket"):
        with pytest.raises(InvalidRequest, match="neither a folder here nor a hub id"):
            sources(tmp_path).spec(base, AdapterSource("a", source))
    path = str(tmp_path / "allowed" / "a")
    with pytest.raises(InvalidRequest, match="`revision` is for adapters from the hub"):
        sources(tmp_path).spec(base, AdapterSource("a", path, "main"))
    with pytest.raises(InvalidRequest, match="has no adapter 'a'; it has own"):
        sources(tmp_path).spec(base, AdapterSource("a"))


def test_a_new_folder_of_the_base_is_found_and_so_are_hub_ids(
    tmp_path: Path, base: ModelSpec
) -> None:
    write_config(tmp_path / "models" / "base" / "adapters" / "fresh")
    found = sources(tmp_path)
    assert found.spec(base, AdapterSource("fresh")).path == Path(
        tmp_path, "models", "base", "adapters", "fresh"
    )
    spec = found.spec(base, AdapterSource("a", "org/a", "v1", ("x",)))
    assert (spec.hub_id, spec.revision, spec.aliases, spec.path) == ("org/a", "v1", ("x",), None)
