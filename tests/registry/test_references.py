"""Names of models in settings and keys, which must mean something."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from llmserve.admission.key_file import KeyFile
from llmserve.domain import AdapterSpec, ModelSpec
from llmserve.errors import ConfigurationError
from llmserve.registry.references import check_keys, check_settings, complaints, names_of
from llmserve.settings import Settings

SERVED = names_of([ModelSpec("demo", aliases=("default",)), ModelSpec("tiny")])
NOW = 1_800_000_000.0


def key_file(folder: Path, **fields: Any) -> KeyFile:
    record = {
        "id": "3f9c01ab",
        "name": "team-a",
        "hash": "0" * 64,
        "created_at": "2026-01-31T12:00:00Z",
    }
    (folder / "keys.json").write_text(json.dumps({"keys": [record | fields]}))
    return KeyFile(folder / "keys.json")


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        (Settings(default_model="dmeo"), "default_model names 'dmeo'.*did you mean 'demo'"),
        (Settings(pinned_models=("demo", "tony")), "pinned_models names 'tony'.*'tiny'"),
        (Settings(default_model="xyz"), "served are default, demo, tiny"),
    ],
)
def test_a_name_that_means_nothing_is_refused_with_the_nearest(
    settings: Settings, told: str
) -> None:
    with pytest.raises(ConfigurationError, match=told):
        check_settings(settings, SERVED)


def test_adapters_are_names_and_a_star_is_for_keys_and_pins_alone(tmp_path: Path) -> None:
    adapter = AdapterSpec("a", path=tmp_path, aliases=("ay",))
    served = names_of([ModelSpec("demo", aliases=("nick",), adapters=(adapter,))])
    assert served == {"demo", "nick", "demo:a", "nick:a", "ay"}
    check_settings(Settings(default_model="nick:a", pinned_models=("demo:*", "ay")), served)
    for wrong in (Settings(default_model="demo:*"), Settings(pinned_models=("demo:b",))):
        with pytest.raises(ConfigurationError, match="which is not served"):
            check_settings(wrong, served)
    check_keys(key_file(tmp_path, models=["demo:later"]), served, NOW)
    records = key_file(tmp_path, models=["nick:*", "demo:later"]).read()
    [complaint] = complaints(records, served, NOW)
    assert "is for 'demo:later', which is not served; did you mean" in complaint


def test_aliases_are_names() -> None:
    check_settings(Settings(default_model="default", pinned_models=("tiny", "default")), SERVED)


def test_a_key_for_nothing_that_is_served_is_refused(tmp_path: Path) -> None:
    file = key_file(tmp_path, models=["dmeo"])
    with pytest.raises(ConfigurationError, match=r"keys\.json: key 'team-a'.*did you mean 'demo'"):
        check_keys(file, SERVED, NOW)


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"models": ["default"]},
        {"models": ["of-another-box", "tiny"]},
        {"models": ["gone"], "revoked_at": "2026-02-01T00:00:00Z"},
        {"models": ["gone"], "expires_at": "2026-02-01T00:00:00Z"},
    ],
)
def test_a_key_that_opens_something_or_is_out_of_force_is_not_refused(
    tmp_path: Path, fields: dict[str, Any]
) -> None:
    check_keys(key_file(tmp_path, **fields), SERVED, NOW)


def test_every_unserved_name_of_a_key_is_told(tmp_path: Path) -> None:
    file = key_file(tmp_path, models=["tiny", "gone", "away"])
    (complaint,) = complaints(file.read(), SERVED, NOW)
    assert "key 'team-a' is for 'gone', 'away', which are not served" in complaint
    assert complaints(key_file(tmp_path, models=["tiny"]).read(), SERVED, NOW) == []
