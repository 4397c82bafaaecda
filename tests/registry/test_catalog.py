"""The catalog: what an operator may write for a model."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from loguru import logger

from llmserve.domain import EngineKind
from llmserve.errors import ConfigurationError
from llmserve.registry.catalog import Catalog
from llmserve.registry.spec_defaults import SpecDefaults
from llmserve.settings import Settings


@pytest.fixture
def models(tmp_path: Path) -> Path:
    """models/ with one bare model, one with a manifest, and things that are no models."""
    folder = tmp_path / "models"
    (folder / "bare").mkdir(parents=True)
    (folder / "bare" / "config.json").write_text("{}")
    (folder / "fine").mkdir()
    (folder / "fine" / "model.toml").write_text("dtype = 'float16'\naliases = ['nice']")
    (folder / "empty").mkdir()
    (folder / "file").write_text("")
    (tmp_path / "secret").mkdir()
    (tmp_path / "secret" / "config.json").write_text("{}")
    return folder


@pytest.mark.parametrize(
    "argument", ["nobody", "empty", "file", "", ".", "..", "bare/..", "a/../../secret", "x\0y"]
)
def test_what_is_no_model_is_refused(models: Path, argument: str) -> None:
    with pytest.raises(ConfigurationError):
        Catalog(models).resolve(argument)


def test_a_misspelt_name_names_the_nearest(models: Path) -> None:
    with pytest.raises(ConfigurationError, match="did you mean 'bare'"):
        Catalog(models).resolve("baer")


def test_two_models_may_not_share_a_name(models: Path) -> None:
    (models / "bare" / "model.toml").write_text("aliases = ['nice']")
    with pytest.raises(ConfigurationError, match="'nice' belongs to both 'fine' and 'bare'"):
        Catalog(models).resolve_all(["fine", "bare"])
    with pytest.raises(ConfigurationError, match="belongs to both"):
        Catalog(models).resolve_all(["fine", "fine"])


def test_what_is_wrong_with_one_model_is_no_others_affair(models: Path) -> None:
    (models / "bare" / "model.toml").write_text("dtipe = 'float32'")
    (models / "twin").mkdir()
    (models / "twin" / "model.toml").write_text("aliases = ['nice']")
    specs, errors = Catalog(models).resolve_each(["bare", "fine", "twin", "gone", "bare"])
    assert [spec.name for spec in specs] == ["bare", "fine", "twin", "gone"]
    assert [spec.argument for spec in specs] == ["bare", "fine", "twin", "gone"]
    assert specs[1] == Catalog(models).resolve("fine")
    assert set(errors) == {"bare", "twin", "gone"}
    assert "dtipe" in errors["bare"].message
    assert "'nice' belongs to both 'fine' and 'twin'" in errors["twin"].message
    assert Catalog(models).resolve_each(["fine", "twin"])[0][1].aliases == ()


@pytest.fixture
def warnings() -> Iterator[list[str]]:
    log: list[str] = []
    sink = logger.add(log.append, format="{message}", level="WARNING")
    yield log
    logger.remove(sink)


def on_demand(models: Path, *names: str, started: Sequence[str] = ()) -> list[str]:
    catalog = Catalog(models)
    specs = catalog.resolve_all(started)
    found = catalog.served_on_demand(Settings(models_on_demand=names), specs)
    return [spec.name for spec in found]


def test_of_all_models_one_with_a_bad_manifest_is_left_out_and_told(
    models: Path, warnings: list[str]
) -> None:
    (models / "bad").mkdir()
    (models / "bad" / "model.toml").write_text("dtpye = 'auto'")
    assert on_demand(models, "*") == ["bare", "fine"]
    (line,) = warnings
    assert "bad is left out of models_on_demand" in line
    assert "did you mean 'dtype'" in line
    for names in (("bad",), ("bad", "*")):
        with pytest.raises(ConfigurationError, match=r"model\.toml"):
            on_demand(models, *names)


def test_of_all_models_one_whose_name_is_taken_is_left_out_and_told(
    models: Path, warnings: list[str]
) -> None:
    (models / "first").mkdir()
    (models / "first" / "model.toml").write_text("aliases = ['nice']")
    assert on_demand(models, "*") == ["bare", "fine"]
    assert on_demand(models, "first", "*") == ["first", "bare"]
    assert on_demand(models, "*", started=["first"]) == ["bare"]
    assert [line.split()[0] for line in warnings] == ["first", "fine", "fine"]
    assert "the name 'nice' belongs to both 'fine' and 'first'" in warnings[0]
    with pytest.raises(ConfigurationError, match="'nice' belongs to both"):
        on_demand(models, "first", "fine")


def test_one_that_was_checked_before_and_is_bad_now_is_left_out_and_told(
    models: Path, warnings: list[str]
) -> None:
    (models / "fine" / "model.toml").write_text("dtpye = 'auto'")
    settings = Settings(models_on_demand=("fine", "bare"))
    found = Catalog(models).served_on_demand(settings, (), are_checked=True)
    assert [spec.name for spec in found] == ["bare"]
    assert "did you mean 'dtype'" in warnings[0]


def test_what_is_loaded_at_the_start_is_not_on_demand_too(
    models: Path, warnings: list[str]
) -> None:
    assert on_demand(models, "*", "fine", started=["fine"]) == ["bare"]
    assert warnings == []


def test_names_lists_folders_with_models(models: Path) -> None:
    assert Catalog(models).names() == ["bare", "fine"]
    assert Catalog(models / "missing").names() == []


def test_paths_and_hub_ids(models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(models)
    assert Catalog(models).resolve("./bare").path == (models / "bare").resolve()
    assert Catalog(models).resolve(str(models.parent / "secret")).name == "secret"
    hub = Catalog(models).resolve("org/name-1.5")
    assert (hub.name, hub.hub_id, hub.path) == ("name-1.5", "org/name-1.5", None)
    assert hub.aliases == ("org/name-1.5",)


@pytest.mark.parametrize(
    "written", ["current", "./models/current", "{models}/current/", "~/current"]
)
def test_a_link_goes_by_its_own_name(
    models: Path, monkeypatch: pytest.MonkeyPatch, written: str
) -> None:
    (models / "current").symlink_to("bare")
    monkeypatch.chdir(models.parent)
    monkeypatch.setenv("HOME", str(models))
    spec = Catalog(models).resolve(written.format(models=models))
    assert (spec.name, spec.path) == ("current", models / "bare")


@pytest.mark.parametrize("written", ["./", "./.", "../bare", "../bare/x/.."])
def test_a_path_that_ends_in_no_name_goes_by_its_folder(
    models: Path, monkeypatch: pytest.MonkeyPatch, written: str
) -> None:
    (models / "bare" / "x").mkdir()
    monkeypatch.chdir(models / "bare")
    assert Catalog(models).resolve(written).name == "bare"


def test_two_names_of_one_folder_are_two_models(models: Path) -> None:
    (models / "stable").symlink_to("bare")
    (models / "latest").symlink_to("bare")
    specs = Catalog(models).resolve_all(["stable", "latest", "bare"])
    assert [spec.name for spec in specs] == ["stable", "latest", "bare"]


def test_hub_repositories_of_one_name_are_told_apart_by_nothing(models: Path) -> None:
    with pytest.raises(ConfigurationError, match="'tiny' belongs to both"):
        Catalog(models).resolve_all(["a/tiny", "b/tiny"])


def test_whether_special_tokens_are_parsed_holds_for_every_model(models: Path) -> None:
    for argument in ("bare", "fine", "org/name"):
        assert not Catalog(models).resolve(argument).parse_special_tokens
        settings = Settings(models_dir=models, parse_special_tokens=True)
        assert Catalog.from_settings(settings).resolve(argument).parse_special_tokens


def test_a_folder_that_looks_like_a_hub_id_is_explained(
    models: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(models.parent)
    with pytest.raises(ConfigurationError, match=r"write \./models/bare"):
        Catalog(models).resolve("models/bare")


def test_the_servers_defaults_hold_where_the_manifest_is_silent(models: Path) -> None:
    threaded = EngineKind.THREADED
    defaults = SpecDefaults("cpu", "bfloat16", threaded, "int8", True, trust_remote_code=True)
    catalog = Catalog(models, defaults)
    fine = catalog.resolve("fine")
    assert (fine.device, fine.dtype, fine.engine) == ("cpu", "float16", EngineKind.THREADED)
    assert fine.trust_remote_code
    assert (fine.quantize, fine.dequantize) == ("int8", True)
    assert not Catalog(models).resolve("fine").trust_remote_code
    said = "trust_remote_code = false\ndequantize = false\nquantize = 'none'"
    (models / "fine" / "model.toml").write_text(said)
    fine = catalog.resolve("fine")
    assert not fine.trust_remote_code, "the manifest said no"
    assert not fine.dequantize
    assert fine.packs_to is None


def test_the_servers_engine_is_for_models_that_generate(models: Path) -> None:
    (models / "encoder").mkdir()
    (models / "encoder" / "modules.json").write_text("[]")
    defaults = SpecDefaults("cpu", engine=EngineKind.THREADED, quantize="int8", dequantize=True)
    catalog = Catalog(models, defaults)
    assert "encoder" in catalog.names()
    spec = catalog.resolve("encoder")
    assert (spec.engine, spec.device) == (EngineKind.AUTO, "cpu")
    assert (spec.quantize, spec.dequantize) == (None, None)
    (models / "encoder" / "model.toml").write_text("engine = 'threaded'")
    assert catalog.resolve("encoder").engine is EngineKind.THREADED


def test_a_gguf_file_is_a_model(models: Path) -> None:
    (models / "packed").mkdir()
    (models / "packed" / "x-Q4_0.gguf").write_bytes(b"")
    catalog = Catalog(models)
    assert "packed" in catalog.names()
    assert catalog.resolve("packed").gguf_file is None, "it is found when it is loaded"
    spec = catalog.resolve(str(models / "packed" / "x-Q4_0.gguf"))
    assert (spec.name, spec.path, spec.gguf_file) == (
        "x-Q4_0",
        (models / "packed").resolve(),
        "x-Q4_0.gguf",
    )
    with pytest.raises(ConfigurationError, match=r"is not a model: .* no \.gguf file"):
        catalog.resolve(str(models / "packed" / "y.gguf"))


def test_a_gguf_file_of_the_hub_has_a_folder_and_a_name_of_its_own(models: Path) -> None:
    spec = Catalog(models).resolve("org/x-GGUF/x-Q4_0.gguf")
    assert (spec.name, spec.hub_id, spec.gguf_file) == ("x-Q4_0", "org/x-GGUF", "x-Q4_0.gguf")
    assert spec.aliases == ("org/x-GGUF/x-Q4_0.gguf",)
    for written in ("a/b/c", "org/x/../y.gguf", "org/x/.gguf"):
        with pytest.raises(ConfigurationError, match="there is no model"):
            Catalog(models).resolve(written)
