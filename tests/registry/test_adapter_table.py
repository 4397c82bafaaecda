"""A model's adapters in its manifest and its folder: bad names and keys, names that two have; then
what is found."""

from __future__ import annotations

from pathlib import Path

import pytest
from loguru import logger
from lora import write_config

from llmserve.domain import ModelSpec
from llmserve.errors import ConfigurationError
from llmserve.registry.catalog import Catalog
from llmserve.registry.manifest import read_manifest
from llmserve.settings import Settings


def model(folder: Path, name: str = "base", manifest: str = "", *adapters: str) -> Path:
    base = folder / name
    base.mkdir()
    (base / "config.json").write_text("{}")
    if manifest:
        (base / "model.toml").write_text(manifest)
    for adapter in adapters:
        write_config(base / "adapters" / adapter)
    return base


def catalog(folder: Path) -> Catalog:
    return Catalog.from_settings(Settings(models_dir=folder))


def table(**fields: str) -> str:
    return "[[adapters]]\n" + "".join(f"{key} = {value}\n" for key, value in fields.items())


@pytest.mark.parametrize(
    ("manifest", "problem"),
    [
        (table(), "adapters.0.name: Field required"),
        (table(name='"latest"'), "Ollama's tag"),
        (table(name='"a:b"'), "is no name for an adapter"),
        (table(name='"*"'), "is no name for an adapter"),
        (table(name='"a/../b"'), "is no name for an adapter"),
        (table(name='"a"', path='"x"', hub_id='"org/a"'), "path and hub_id exclude each other"),
        (table(name='"a"', revision='"main"'), "revision needs a hub_id"),
        (
            table(name='"a"', aliasse="[]"),
            "unknown key 'adapters.0.aliasse'; did you mean 'aliases'",
        ),
        ('upstream = "http://127.0.0.1:1"\n' + table(name='"a"'), "upstream and adapters exclude"),
    ],
)
def test_a_mistake_is_reported_with_the_file(tmp_path: Path, manifest: str, problem: str) -> None:
    with pytest.raises(ConfigurationError, match=r"model\.toml: ") as refused:
        read_manifest(model(tmp_path, "base", manifest))
    assert problem in refused.value.message


@pytest.mark.parametrize(
    ("manifest", "owners"),
    [
        (table(name='"a"') * 2, "'base:a' belongs to both 'base:a' and 'base:a'"),
        (table(name='"a"', aliases='["base"]'), "'base' belongs to both 'base' and 'base:a'"),
        (table(name='"a"', aliases='["other"]'), "'other' belongs to both 'base:a' and 'other'"),
        ('aliases = ["base:a"]\n' + table(name='"a"'), "'base:a' belongs to both 'base' and"),
        (
            table(name='"a"', aliases='["x"]') + table(name='"b"', aliases='["x"]'),
            "'x' belongs to both 'base:a' and 'base:b'",
        ),
        ('aliases = ["nick"]\n' + table(name='"a"'), "'nick:a' belongs to both 'base:a' and 'far'"),
    ],
)
def test_a_name_that_two_have_is_an_error_with_both(
    tmp_path: Path, manifest: str, owners: str
) -> None:
    model(tmp_path, "base", manifest)
    model(tmp_path, "other")
    model(tmp_path, "far", 'aliases = ["nick:a"]\n')
    with pytest.raises(ConfigurationError) as refused:
        catalog(tmp_path).resolve_all(["base", "other", "far"])
    assert owners in refused.value.message


def test_a_folder_with_a_name_that_no_adapter_can_have_is_told_and_left_out(
    tmp_path: Path,
) -> None:
    log: list[str] = []
    sink = logger.add(log.append, format="{message}", level="WARNING")
    try:
        base = model(tmp_path, "base", "", "good", "latest", "so bad", ".hidden")
    finally:
        spec = read_manifest(base)
        logger.remove(sink)
    assert [adapter.name for adapter in spec.adapters] == ["good"]
    assert len(log) == 2


def test_tables_come_first_and_may_name_folders(tmp_path: Path) -> None:
    manifest = (
        table(name='"far"', hub_id='"org/far"', revision='"v1"')
        + table(name='"b"', aliases='["bee"]')
        + table(name='"else"', path='"../else"')
    )
    base = model(tmp_path, "base", 'aliases = ["nick"]\n' + manifest, "b", "a")
    far, b, elsewhere, a = read_manifest(base).adapters
    assert (far.hub_id, far.revision, far.path) == ("org/far", "v1", None)
    assert (b.path, b.aliases) == (base / "adapters" / "b", ("bee",))
    assert elsewhere.path == tmp_path / "else"
    assert a.path == base / "adapters" / "a"
    assert b.served_names(("base", "nick")) == ("base:b", "nick:b", "bee")


def initial(specs: list[ModelSpec]) -> list[str]:
    return [f"{s.name}:{a.name}" for s in specs for a in s.adapters if a.is_initial]


def test_adapters_among_the_models_are_loaded_at_start(tmp_path: Path) -> None:
    base = model(tmp_path, "base", "", "a", "b", "c")
    model(tmp_path, "other", "", "a")
    (tmp_path / "odd:a").mkdir()
    (tmp_path / "odd:a" / "config.json").write_text("{}")
    known = catalog(tmp_path)
    specs = known.resolve_all(["base:a", "other", "base", f"{base}:b", "odd:a"][:3])
    assert [spec.name for spec in specs] == ["base", "other"]
    assert initial(specs) == ["base:a"]
    assert specs[0].argument == "base"
    assert initial([known.resolve(f"{base}:b")]) == ["base:b"]
    assert known.resolve("odd:a").name == "odd:a"
    with pytest.raises(ConfigurationError, match="'base' belongs to both"):
        known.resolve_all(["base", "base:a", "base"])
    with pytest.raises(ConfigurationError, match="has no adapter 'd'"):
        known.resolve_all(["base:d"])
    specs, errors = known.resolve_each(["base:d", "base:c"])
    assert (initial(specs), errors) == (["base:c"], {})
    on_demand = known.served_on_demand(Settings(models_on_demand=("base:a", "*")), [])
    assert initial(on_demand) == ["base:a"]


def test_a_hub_models_adapters_lie_where_it_will(tmp_path: Path) -> None:
    write_config(tmp_path / "big" / "adapters" / "a")
    spec = catalog(tmp_path).resolve("org/big")
    assert spec.all_names == ("big", "org/big", "big:a", "org/big:a")
