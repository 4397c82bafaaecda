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
        ({"port": 9000, "grpc_port": 9000}, "port and grpc_port are the same"),
        ({"grpc_certfile": "a.pem"}, "grpc_certfile and grpc_keyfile belong together"),
        ({"grpc_keyfile": "a.key"}, "grpc_certfile and grpc_keyfile belong together"),
        ({"grpc_client_ca_file": "ca.pem"}, "grpc_client_ca_file is for TLS"),
        ({"cors_origins": "[1"}, "cors_origins"),
        ({"jobs_dir": "j", "queue_url": "http://queue"}, "queue_url"),
        ({"queue_url": "redis://queue"}, "jobs_dir"),
        ({"webhook_urls": "https://hooks.example"}, "webhook_secret"),
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


def service_links(prefix: str, host: str, port: int, protocol: str) -> dict[str, str]:
    """What Kubernetes tells every pod of a Service, variables in the style of Docker included."""
    address = f"[{host}]" if ":" in host else host
    url = f"{protocol}://{address}:{port}"
    endpoint = f"{prefix}_PORT_{port}_{protocol.upper()}"
    return {
        f"{prefix}_SERVICE_HOST": host,
        f"{prefix}_SERVICE_PORT": str(port),
        f"{prefix}_SERVICE_PORT_HTTP": str(port),
        f"{prefix}_SERVICE_PORT_METRICS_V2": str(port),
        f"{prefix}_PORT": url,
        endpoint: url,
        f"{endpoint}_PROTO": protocol,
        f"{endpoint}_PORT": str(port),
        f"{endpoint}_ADDR": host,
    }


@pytest.mark.parametrize("host", ["10.0.0.1", "fd00::1"])
@pytest.mark.parametrize("protocol", ["tcp", "udp", "sctp"])
@pytest.mark.parametrize(
    "service", ["LLMSERVE", "LLMSERVE_CANARY", "LLMSERVE_8B", "LLMSERVE_HOST", "LLMSERVE_A_PORT"]
)
def test_variables_that_kubernetes_makes_for_a_service_are_not_ours(
    monkeypatch: pytest.MonkeyPatch, service: str, protocol: str, host: str
) -> None:
    for name, value in service_links(service, host, 8000, protocol).items():
        monkeypatch.setenv(name, value)
    loaded = load_settings()
    assert loaded.settings == Settings()
    assert set(loaded.origins.values()) == {"default"}


def test_variables_that_docker_makes_for_a_link_are_not_ours(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name, value in {
        "LLMSERVE_NAME": "/web/llmserve",
        "LLMSERVE_PORT": "tcp://172.17.0.5:8000",
        "LLMSERVE_PORT_8000_TCP": "tcp://172.17.0.5:8000",
        "LLMSERVE_ENV_LLMSERVE_HOST": "0.0.0.0",
        "LLMSERVE_ENV_PYTHON_VERSION": "3.11.7",
    }.items():
        monkeypatch.setenv(name, value)
    assert load_settings().settings == Settings()


def test_a_service_named_like_the_server_leaves_the_setting_port_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name, value in service_links("LLMSERVE", "10.0.0.1", 80, "tcp").items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("LLMSERVE_PORT", "9000")
    loaded = load_settings()
    assert loaded.settings.port == 9000
    assert loaded.origins["port"] == "environment LLMSERVE_PORT"


@pytest.mark.parametrize(
    ("name", "value", "told"),
    [
        ("LLMSERVE_PROT", "8000", "did you mean 'port'"),
        ("LLMSERVE_PROT", "tcp://10.0.0.1:8000", "did you mean 'port'"),
        ("LLMSERVE_CANARY_PORT", "8000", "canary_port"),  # a Service's is a URL
        ("LLMSERVE_SERVICE_PORT", "many", "service_port"),
        ("LLMSERVE_PORT_8000_TCP", "8000", "port_8000_tcp"),
        ("LLMSERVE_SERVICE_HOSTS", "10.0.0.1", "service_hosts"),
        ("LLMSERVE_ENV_HOST", "0.0.0.0", "env_host"),  # no link of that name
        ("LLMSERVE_NAME", "me", "'name'"),
        ("LLMSERVE_PORT", "http://10.0.0.1:80", "port"),
    ],
)
def test_what_has_not_the_whole_shape_is_still_refused(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str, told: str
) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(ConfigurationError, match=told):
        load_settings()


@pytest.mark.parametrize("text", ["a, b", '["a", "b"]', "a,b,"])
def test_lists_are_json_or_words_between_commas(text: str) -> None:
    assert load_settings({"models": text}).settings.models == ("a", "b")


def test_a_server_may_load_on_demand_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LLMSERVE_MODELS", "[]")
    monkeypatch.setenv("LLMSERVE_MODELS_ON_DEMAND", "later")
    settings = load_settings().settings
    assert (settings.models, settings.models_on_demand) == ((), ("later",))
    for name, value in to_environment(settings).items():
        monkeypatch.setenv(name, value)
    assert load_settings().settings == settings, "a worker's are its supervisor's"


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
    rows = [line for line in settings_table().splitlines() if line.startswith("| `")]
    assert [row.split("`")[1] for row in rows] == list(Settings.model_fields)
    assert all(field.description for field in Settings.model_fields.values())
