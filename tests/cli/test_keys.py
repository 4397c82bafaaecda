"""`llmserve keys`, as a user calls it."""

from __future__ import annotations

import json
import os
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from click.testing import Result
from small_disk import small_disk
from typer.testing import CliRunner

from llmserve.admission.credential import public_id
from llmserve.admission.key_file import KeyFile
from llmserve.admission.keys import KeyRing
from llmserve.cli.keys import keys as keys_app
from llmserve.domain import CallerLimits, Scope
from llmserve.errors import ConfigurationError, Unauthorized


@pytest.fixture(autouse=True)
def alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No settings but those of the test."""
    monkeypatch.chdir(tmp_path)
    for name in [name for name in os.environ if name.startswith("LLMSERVE_")]:
        monkeypatch.delenv(name)


def keys(*arguments: str) -> Result:
    result = CliRunner().invoke(keys_app, [*arguments, "--file", "keys.json"])
    if isinstance(result.exception, ConfigurationError):
        raise result.exception
    return result


def create(*arguments: str) -> str:
    result = keys("create", *arguments)
    assert result.exit_code == 0, result.output
    return result.stdout.removesuffix("\n")


def listed() -> list[dict[str, object]]:
    made: list[dict[str, object]] = json.loads(keys("list", "--json").stdout)
    return made


def ring() -> KeyRing:
    return KeyRing(key_file=KeyFile(Path("keys.json")))


def test_without_a_file_named_anywhere_the_usual_one_is_taken_and_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for arguments in (["list"], ["revoke", "a"]):
        result = CliRunner().invoke(keys_app, arguments)
        assert isinstance(result.exception, ConfigurationError)
        assert "llmserve-keys.json does not exist" in result.exception.message
        assert "--keys-file llmserve-keys.json" in result.stderr
    made = CliRunner().invoke(keys_app, ["create", "a"])
    assert made.exit_code == 0
    assert made.stdout.strip()
    assert "the key file is llmserve-keys.json" in made.stderr
    assert '"a"' in (tmp_path / "llmserve-keys.json").read_text()
    assert CliRunner().invoke(keys_app, ["revoke", "a"]).exit_code == 0


def test_on_a_full_disk_the_file_stays_as_it_was_and_it_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with small_disk(tmp_path / "disk", 64 * 1024) as disk:
        monkeypatch.chdir(disk.path)
        create("alice")
        before = Path("keys.json").read_text()
        disk.fill()
        with pytest.raises(ConfigurationError, match=r"cannot be written: .*No space left"):
            keys("create", "bob")
        assert Path("keys.json").read_text() == before
        assert sorted(path.name for path in disk.path.iterdir()) == ["ballast", "keys.json"]
        monkeypatch.chdir(tmp_path)


def test_a_file_that_is_not_there_can_only_be_created() -> None:
    for arguments in (["list"], ["revoke", "a"]):
        with pytest.raises(ConfigurationError, match="does not exist"):
            keys(*arguments)
    assert not Path("keys.json").exists()


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["two words"], "name: spaces"),
        (["key-1"], "name: this name is reserved"),
        (["a", "--expires", "soon"], "neither a period"),
        (["a", "--expires", "2020-01-01"], "has passed"),
        (["a", "--expires", "0d"], "has passed"),
        (["a", "--expires", "999999w"], "neither a period"),
        (["a", "--model", ""], "models.0"),
    ],
)
def test_a_key_that_makes_no_sense_is_refused(arguments: list[str], told: str) -> None:
    with pytest.raises(ConfigurationError, match=told):
        keys("create", *arguments)
    assert not Path("keys.json").exists()


@pytest.mark.parametrize(
    "arguments",
    [["a", "--scope", "root"], ["a", "--requests-per-minute", "0"], ["a", "--priority", "0"], []],
)
def test_a_wrong_flag_is_a_usage_error(arguments: list[str]) -> None:
    assert keys("create", *arguments).exit_code == 2
    assert not Path("keys.json").exists()


def test_a_name_is_taken_until_its_key_is_revoked() -> None:
    old = create("alice")
    with pytest.raises(ConfigurationError, match="'alice'"):
        keys("create", "alice")
    keys("revoke", "alice")
    new = create("alice")
    assert ring().identify(new).name == "alice"
    with pytest.raises(Unauthorized, match="revoked"):
        ring().identify(old)


def test_revoking_nobody_or_twice_is_told() -> None:
    create("alice")
    with pytest.raises(ConfigurationError, match="no key 'bob'"):
        keys("revoke", "bob")
    keys("revoke", "alice")
    with pytest.raises(ConfigurationError, match="already"):
        keys("revoke", "alice")


def test_a_name_that_is_anothers_id_is_ambiguous() -> None:
    key_id = public_id(create("alice")) or ""
    other = public_id(create(key_id)) or ""
    with pytest.raises(ConfigurationError, match="one key's id"):
        keys("revoke", key_id)
    keys("revoke", other)
    keys("revoke", key_id)
    assert [k["state"] for k in listed()] == ["revoked", "revoked"]


def test_only_the_key_is_on_stdout_and_it_is_nowhere_else() -> None:
    result = keys("create", "alice")
    key = result.stdout.removesuffix("\n")
    assert "\n" not in key
    assert ring().identify(key).name == "alice"
    shown = result.stderr + Path("keys.json").read_text() + keys("list").output
    assert key not in shown
    assert key.split("-", 2)[2] not in shown
    assert "alice" in result.stderr


def test_a_key_opens_what_was_said() -> None:
    key = create(
        *("alice", "--scope", "generate", "--scope", "admin", "--model", "m1", "--model", "m2"),
        *("--requests-per-minute", "60", "--tokens-per-minute", "1000", "--concurrency", "2"),
        *("--priority", "4", "--background"),
    )
    caller = ring().identify(key)
    assert caller.scopes == {Scope.GENERATE, Scope.ADMIN}
    assert caller.models == {"m1", "m2"}
    assert caller.limits == CallerLimits(60, 1000, 2)
    assert (caller.priority, caller.is_background) == (4, True)
    key = create("bob")
    assert not ring().identify(key).is_background


@pytest.mark.parametrize(
    ("expires", "end"),
    [
        ("2999-01-31", datetime(2999, 1, 31, tzinfo=UTC)),
        ("2999-01-31T12:00", datetime(2999, 1, 31, 12, tzinfo=UTC)),
        ("2999-01-31T12:00+02:00", datetime(2999, 1, 31, 10, tzinfo=UTC)),
    ],
)
def test_a_key_expires_on_a_date(expires: str, end: datetime) -> None:
    create("alice", "--expires", expires)
    (record,) = KeyFile(Path("keys.json")).read()
    assert record.expires_at == end


@pytest.mark.parametrize(
    ("expires", "period"),
    [("12h", timedelta(hours=12)), ("30d", timedelta(days=30)), ("2w", timedelta(weeks=2))],
)
def test_a_key_expires_after_a_period(expires: str, period: timedelta) -> None:
    create("alice", "--expires", expires)
    (record,) = KeyFile(Path("keys.json")).read()
    assert record.expires_at == record.created_at + period


def test_the_list_tells_all_but_hashes() -> None:
    key = create("alice", "--expires", "2999-01-31", "--concurrency", "2")
    create("bob", "--model", "[demo]")
    keys("revoke", "bob")
    table = keys("list").stdout
    rows = {line.split()[1]: line for line in table.splitlines()}
    assert list(rows) == ["name", "alice", "bob"]
    for word in (public_id(key) or "", "generate", "all", "2 open", "2999-01-31", "active"):
        assert word in rows["alice"]
    for word in ("[demo]", "none", "never", "revoked"):
        assert word in rows["bob"]
    for record in KeyFile(Path("keys.json")).read():
        assert record.hash not in table + keys("list", "--json").stdout
    assert [(k["name"], k["state"]) for k in listed()] == [("alice", "active"), ("bob", "revoked")]


def test_the_file_is_that_of_the_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    Path("llmserve.toml").write_text('keys_file = "from-toml.json"\n')
    Path("other.toml").write_text('keys_file = "from-other.json"\n')
    runner = CliRunner()
    assert runner.invoke(keys_app, ["create", "a"]).exit_code == 0
    assert runner.invoke(keys_app, ["create", "b", "--config", "other.toml"]).exit_code == 0
    monkeypatch.setenv("LLMSERVE_KEYS_FILE", "from-environment.json")
    assert runner.invoke(keys_app, ["create", "c"]).exit_code == 0
    names = ("from-toml", "from-other", "from-environment")
    found = [KeyFile(Path(f"{name}.json")).read()[0].name for name in names]
    assert found == ["a", "b", "c"]
