"""The command line as a user calls it."""

from __future__ import annotations

import io
from importlib.metadata import version
from pathlib import Path

import pytest
from fake_hub import running_hub
from lora import write_config
from programs import llmserve
from server import Server
from typer.testing import CliRunner

from llmserve.cli import once
from llmserve.cli.conversation import Conversation
from llmserve.cli.main import app
from llmserve.settings import GROUPS, Settings, settings_table


def test_a_wrong_model_is_one_line_and_exit_code_two(tmp_path: Path) -> None:
    done = llmserve("serve", "nobody", cwd=tmp_path)
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "nobody" in done.stderr


def test_without_a_command_the_commands_are_shown_and_the_version_if_asked() -> None:
    shown = CliRunner().invoke(app, [])
    assert shown.exit_code == 0
    assert shown.stdout == CliRunner().invoke(app, ["--help"]).stdout
    first, second, *_ = shown.stdout.partition("Commands:\n")[2].splitlines()
    assert first.split()[0] == "serve"
    assert second.split()[0] == "chat"
    told = CliRunner().invoke(app, ["--version"])
    assert (told.exit_code, told.stdout) == (0, f"llmserve {version('llmserve')}\n")


def test_help_has_whole_names_types_and_defaults_in_groups() -> None:
    shown = CliRunner().invoke(app, ["serve", "--help"], env={"COLUMNS": "80"}).stdout
    flags = ["--" + name.replace("_", "-") for name in Settings.model_fields]
    secret = {"--api-keys", "--admin-keys", "--hf-token", "--queue-url", "--webhook-secret"}
    assert [f for f in flags if f not in secret | {"--models"} and f"  {f} " not in shown] == []
    assert not any(flag in shown.split() for flag in secret)
    sections = [line for line in shown.splitlines() if line.endswith("settings:")]
    assert sections == [f"{group} settings:" for group in GROUPS]
    assert "--port NUMBER" in shown
    assert "--drain-timeout-seconds SECONDS" in shown
    assert "--engine auto|batching|threaded" in shown
    assert "[default: 8000]" in shown


def test_a_command_offers_the_settings_that_matter_to_it() -> None:
    shown = CliRunner().invoke(app, ["generate", "--help"]).stdout
    assert "--dtype" in shown
    assert "--port" not in shown
    assert "--max-waiting" not in shown
    assert CliRunner().invoke(app, ["models", "--port", "1"]).exit_code == 2


def test_a_misspelt_setting_names_the_nearest(tmp_path: Path) -> None:
    done = llmserve("config", cwd=tmp_path, prot=1)
    assert done.returncode == 2
    assert "did you mean 'port'" in done.stderr
    (tmp_path / "llmserve.toml").write_text("hots = '::'\n")
    done = llmserve("config", cwd=tmp_path)
    assert "did you mean 'host'" in done.stderr
    assert "llmserve.toml" in done.stderr


def test_config_prints_the_tables_that_pages_embed(tmp_path: Path) -> None:
    done = llmserve("config", "--table", cwd=tmp_path, hf_token="hush")
    assert (done.returncode, done.stdout) == (0, settings_table())


def test_reload_with_several_workers_is_refused(tmp_path: Path) -> None:
    done = llmserve("serve", "--reload", "--workers", "2", cwd=tmp_path)
    assert done.returncode == 2
    assert "reload" in done.stderr


def test_a_store_that_cannot_be_used_is_one_line_and_exit_code_two(
    tiny_model: Path, tmp_path: Path
) -> None:
    done = llmserve("serve", tiny_model, cwd=tmp_path, responses_store="nowhere/responses.db")
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "responses_store: nowhere/responses.db" in done.stderr


def test_batches_that_cannot_be_kept_are_one_line_and_exit_code_two(
    tiny_model: Path, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("no folder")
    done = llmserve("serve", tiny_model, cwd=tmp_path, jobs_dir="file")
    assert done.returncode == 2
    assert "jobs_dir: file cannot be used" in done.stderr
    assert "Traceback" not in done.stderr


def test_config_shows_where_each_value_came_from_and_no_secret(tmp_path: Path) -> None:
    (tmp_path / "llmserve.toml").write_text('port = 1\nmax_running = 2\napi_keys = ["hush-a"]\n')
    done = llmserve("config", "--port", "3", cwd=tmp_path, max_running=5, hf_token="hush-b")
    rows = {line.split()[0]: line for line in done.stdout.splitlines() if line.strip()}
    assert " 3 " in rows["port"]
    assert "flag --port" in rows["port"]
    assert "environment LLMSERVE_MAX_RUNNING" in rows["max_running"]
    assert "llmserve.toml" in rows["api_keys"]
    assert "hush" not in done.stdout + done.stderr


def test_models_lists_folders_and_tells_of_a_bad_manifest(tiny_model: Path, tmp_path: Path) -> None:
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "tiny").symlink_to(tiny_model)
    done = llmserve("models", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "tiny" in done.stdout
    bad = tmp_path / "models" / "bad"
    bad.mkdir()
    write_config(bad / "adapters" / "ia3", peft_type="IA3")
    write_config(bad / "adapters" / "empty")
    (bad / "model.toml").write_text("")
    done = llmserve("models", cwd=tmp_path)
    assert done.returncode == 2
    assert "bad:ia3 cannot be served: its peft_type is 'IA3'" in done.stderr
    assert "bad:empty cannot be served: there is no adapter_model.safetensors" in done.stderr
    (bad / "model.toml").write_text("dtpye = 'auto'\n")
    done = llmserve("models", cwd=tmp_path)
    assert done.returncode == 2
    assert "model.toml" in done.stderr
    assert "did you mean 'dtype'" in done.stderr


def test_generate_streams_one_prompt_to_stdout(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A server's settings of other models do not concern it.
    (tmp_path / "llmserve.toml").write_text('default_model = "demo"\npinned_models = ["demo"]\n')
    arguments = ("generate", "-m", str(tiny_model), "--seed", "1", "--max-tokens", "8")
    first = llmserve(*arguments, "hello", cwd=tmp_path)
    assert first.returncode == 0, first.stderr
    assert first.stdout.strip()
    asked: list[tuple[object, ...]] = []
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(once, "generate_once", lambda *given: asked.append(given[:-1]))
    for prompt in ("hello", "-"):
        CliRunner().invoke(app, [*arguments, prompt], input="hello", catch_exceptions=False)
    assert asked[0] == asked[1], "a piped prompt is asked as another one"
    assert asked[0][1] == "hello"


def test_generate_tells_of_a_broken_model(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    done = llmserve("generate", "-m", str(tmp_path), "hello", cwd=tmp_path)
    assert done.returncode == 2
    assert "cannot be loaded" in done.stderr


def test_pull_says_what_the_hub_said(tmp_path: Path) -> None:
    with running_hub() as hub:
        hub.repositories["org/name"] = {"config.json": b"{}", "model.safetensors": b"w" * 1000}
        done = llmserve("pull", "org/other", "--hf-endpoint", hub.url, cwd=tmp_path)
        assert done.returncode == 2
        assert "the hub has no org/other" in done.stderr
        done = llmserve("pull", "org/name", "--hf-endpoint", hub.url, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "models/name"
    assert (tmp_path / "models" / "name" / "model.safetensors").stat().st_size == 1000


def test_chat_streams_answers_and_survives_errors(
    plain: Server, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    before = plain.metric("llmserve_request_success_total")
    monkeypatch.setattr("sys.stdin", io.StringIO("hello\n\nagain\n"))
    fields = {"max_tokens": 4, "temperature": 0}
    Conversation(plain.url, fields, "be brief", None).run()
    assert plain.metric("llmserve_request_success_total") - before == 2
    monkeypatch.setattr("sys.stdin", io.StringIO("hello\n"))
    Conversation(plain.url, {"model": "nobody"}, None, None).run()
    assert "'nobody' is not served" in " ".join(capsys.readouterr().out.split())
    monkeypatch.setattr("sys.stdin", io.StringIO("hello\n"))
    Conversation("http://127.0.0.1:9", {}, None, None).run()
    assert "127.0.0.1:9" in capsys.readouterr().out
