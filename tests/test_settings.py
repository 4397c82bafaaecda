"""Settings: what is refused first, then who wins."""

from __future__ import annotations

from pathlib import Path

import pytest

from llmserve.errors import ConfigurationError
from llmserve.settings import Settings, load_settings, settings_table, shown, to_environment


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def write(text: str, name: str = "llmserve.toml") -> Path:
    file = Path(name)
    file.write_text(text)
    return file


def test_unknown_names_are_refused_with_the_nearest(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigurationError, match=r"'hots'.*flag.*did you mean 'host'"):
        load_settings({"hots": "x"})
    monkeypatch.setenv("LLMSERVE_MAX_RUNING", "2")
    with pytest.raises(ConfigurationError, match=r"LLMSERVE_MAX_RUNING.*'max_running'"):
        load_settings()
    monkeypatch.delenv("LLMSERVE_MAX_RUNING")
    write("[server]\nport = 1\n")
    with pytest.raises(ConfigurationError, match=r"'server'.*llmserve\.toml"):
        load_settings()


@pytest.mark.parametrize(
    ("flags", "named"),
    [
        ({"port": "many"}, "port"),
        ({"port": 70_000}, "port"),
        ({"max_running": 0}, "max_running"),
        ({"device": "tpu"}, "device"),
        ({"device": "cuda:x"}, "device"),
        ({"dtype": "int3"}, "dtype"),
        ({"wait_timeout_seconds": -1}, "wait_timeout_seconds"),
        ({"request_timeout_seconds": "inf"}, "request_timeout_seconds"),
        ({"models": ""}, "models"),
        ({"reload": True, "workers": 2}, "reload"),
        ({"cors_origins": "[1"}, "cors_origins"),
    ],
)
def test_a_bad_value_names_its_setting(flags: dict[str, object], named: str) -> None:
    with pytest.raises(ConfigurationError, match=named):
        load_settings(flags)


def test_an_error_never_shows_a_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LLMSERVE_API_KEYS", '["hush", 7]')
    monkeypatch.setenv("LLMSERVE_PORT", "hush")
    with pytest.raises(ConfigurationError) as refused:
        load_settings()
    assert "hush" not in str(refused.value)
    assert "LLMSERVE_PORT" in str(refused.value)


@pytest.mark.parametrize("keys", [",", " ", "a,,b", '["", "a"]', [""]])
def test_a_blank_key_is_a_mistake_and_never_an_open_door(keys: object) -> None:
    with pytest.raises(ConfigurationError, match="api_keys"):
        load_settings({"api_keys": keys})
    assert load_settings({"api_keys": "[]"}).settings.api_keys == ()


def test_a_settings_file_that_was_asked_for_must_be_there(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with pytest.raises(ConfigurationError, match="does not exist"):
        load_settings(config_file=Path("nowhere.toml"))
    monkeypatch.setenv("LLMSERVE_CONFIG", "nowhere.toml")
    with pytest.raises(ConfigurationError, match="does not exist"):
        load_settings()
    write("port = [", "nowhere.toml")
    with pytest.raises(ConfigurationError, match="cannot be read"):
        load_settings()


def test_flags_beat_environment_beats_file_beats_defaults(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    write('port = 1\nhost = "file"\nmax_running = 9\n')
    monkeypatch.setenv("LLMSERVE_PORT", "2")
    monkeypatch.setenv("LLMSERVE_HOST", "environment")
    loaded = load_settings({"port": "3"})
    assert (loaded.settings.port, loaded.settings.host) == (3, "environment")
    assert loaded.settings.max_running == 9
    assert loaded.origins["port"] == "flag --port"
    assert loaded.origins["host"] == "environment LLMSERVE_HOST"
    assert "llmserve.toml" in loaded.origins["max_running"]
    assert loaded.origins["workers"] == "default"


def test_variables_that_kubernetes_makes_for_a_service_are_not_ours(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name, value in {
        "LLMSERVE_SERVICE_HOST": "10.0.0.1",
        "LLMSERVE_PORT": "tcp://10.0.0.1:80",
        "LLMSERVE_PORT_80_TCP_ADDR": "10.0.0.1",
    }.items():
        monkeypatch.setenv(name, value)
    assert load_settings().settings.port == 8000


@pytest.mark.parametrize("text", ["a, b", '["a", "b"]', "a,b,"])
def test_lists_are_json_or_words_between_commas(text: str) -> None:
    assert load_settings({"models": text}).settings.models == ("a", "b")


def test_secrets_are_in_no_representation() -> None:
    settings = load_settings({"api_keys": "hush,hash", "hf_token": "hush"}).settings
    assert "hush" not in repr(settings) + shown(settings.api_keys) + shown(settings.hf_token)
    assert shown(settings.api_keys) == "(2 set, not shown)"


def test_a_worker_loads_from_the_environment_what_its_parent_has(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    write("port = 1\nmax_waiting = 3\n")
    flags = {"port": 8000, "api_keys": "a,b", "cors_origins": "*", "run_dir": "/tmp/x"}
    parent = load_settings(flags).settings
    for name, value in to_environment(parent).items():
        monkeypatch.setenv(name, value)
    assert load_settings().settings == parent


def test_the_table_has_a_row_for_every_setting() -> None:
    rows = settings_table().splitlines()[2:]
    assert [row.split("`")[1] for row in rows] == list(Settings.model_fields)
    assert all(field.description for field in Settings.model_fields.values())
