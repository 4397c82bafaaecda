"""API keys under a manual clock."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from loguru import logger

from llmserve.admission.credential import digest, new_credential
from llmserve.admission.key_file import KeyFile
from llmserve.admission.key_record import KeyRecord
from llmserve.admission.keys import KeyRing
from llmserve.domain import Caller, CallerLimits, Scope
from llmserve.errors import ConfigurationError, Unauthorized

NOW = datetime(2026, 1, 31, 12, tzinfo=UTC)


class Clock:
    """Moves when it is told to."""

    def __init__(self) -> None:
        self.now = NOW.timestamp()

    def __call__(self) -> float:
        return self.now


def add_key(path: Path, name: str, **fields: Any) -> str:
    key_id, key = new_credential()
    with KeyFile(path).edit() as records:
        records.append(
            KeyRecord(id=key_id, name=name, hash=digest(key).hex(), created_at=NOW, **fields)
        )
    return key


def revoke(path: Path, name: str) -> None:
    with KeyFile(path).edit() as records:
        for place, record in enumerate(records):
            if record.name == name:
                records[place] = record.model_copy(update={"revoked_at": NOW})


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "keys.json"


@pytest.fixture
def log() -> Iterator[list[str]]:
    lines: list[str] = []
    sink = logger.add(lambda message: lines.append(str(message)), format="{level} {message}")
    yield lines
    logger.remove(sink)


@pytest.mark.parametrize("credential", [None, "", "wrong", "key-on", "key-one ", "\ud800"])
def test_anything_but_a_key_is_refused(credential: str | None) -> None:
    with pytest.raises(Unauthorized) as refused:
        KeyRing(["key-one", "key-two"]).identify(credential)
    assert not credential or credential not in refused.value.message


def test_a_refusal_is_a_401_that_says_how_to_send_a_key() -> None:
    with pytest.raises(Unauthorized, match="Authorization: Bearer") as refused:
        KeyRing(["key-one"]).identify(None)
    assert (refused.value.status, refused.value.code) == (401, "invalid_api_key")


def test_an_id_of_ours_with_another_secret_is_refused(path: Path) -> None:
    key = add_key(path, "alice")
    ring = KeyRing(key_file=KeyFile(path))
    for credential in (None, "", "llms", key[:-1], key + "x", "llms-00000000-x", "llms--"):
        with pytest.raises(Unauthorized, match=r"not valid|no API key"):
            ring.identify(credential)


def test_an_expired_key_says_when(path: Path) -> None:
    key = add_key(path, "alice", expires_at=NOW + timedelta(days=1))
    clock = Clock()
    ring = KeyRing(key_file=KeyFile(path), clock=clock)
    clock.now += 86_399
    assert ring.identify(key).name == "alice"
    clock.now += 1
    with pytest.raises(Unauthorized, match="expired on 2026-02-01"):
        ring.identify(key)


def test_a_revoked_key_says_so_within_a_second(path: Path) -> None:
    key = add_key(path, "alice")
    clock = Clock()
    ring = KeyRing(key_file=KeyFile(path), clock=clock)
    revoke(path, "alice")
    clock.now += 0.9
    assert ring.identify(key).name == "alice", "the file is looked at once a second at most"
    clock.now += 0.1
    with pytest.raises(Unauthorized, match="revoked"):
        ring.identify(key)


def test_no_key_file_or_a_wrong_one_stops_the_start(path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"does not exist.*llmserve keys create"):
        KeyRing(key_file=KeyFile(path))
    path.write_text('{"keys": [')
    with pytest.raises(ConfigurationError, match=str(path)):
        KeyRing(key_file=KeyFile(path))


def test_a_file_that_went_bad_keeps_the_keys_and_is_told_once(path: Path, log: list[str]) -> None:
    key = add_key(path, "alice")
    good = path.read_text()
    clock = Clock()
    ring = KeyRing(key_file=KeyFile(path), clock=clock)
    path.write_text("{}")
    for _ in range(5):
        clock.now += 1
        assert ring.identify(key).name == "alice"
    path.unlink()
    for _ in range(5):
        clock.now += 1
        assert ring.identify(key).name == "alice"
    errors = [line for line in log if line.startswith("ERROR")]
    assert ["field keys" in errors[0], "does not exist" in errors[1]] == [True, True]
    assert len(errors) == 2
    path.write_text(good.replace('"alice"', '"alicia"'))
    clock.now += 1
    assert ring.identify(key).name == "alicia"


def test_a_clock_that_went_back_does_not_stop_the_looking(path: Path) -> None:
    key = add_key(path, "alice")
    clock = Clock()
    ring = KeyRing(key_file=KeyFile(path), clock=clock)
    revoke(path, "alice")
    clock.now -= 86_400
    with pytest.raises(Unauthorized, match="revoked"):
        ring.identify(key)


def test_a_file_that_others_may_read_is_warned_of(path: Path, log: list[str]) -> None:
    add_key(path, "alice")
    KeyRing(key_file=KeyFile(path))
    assert not [line for line in log if line.startswith("WARNING")]
    path.chmod(0o644)
    KeyRing(key_file=KeyFile(path))
    assert "chmod o-rwx" in next(line for line in log if line.startswith("WARNING"))


def test_a_file_without_keys_is_a_closed_door(path: Path) -> None:
    path.write_text('{"keys": []}')
    with pytest.raises(Unauthorized):
        KeyRing(key_file=KeyFile(path)).identify(None)
    with pytest.raises(Unauthorized):
        KeyRing(admin_keys=["root"], key_file=KeyFile(path)).identify("nobody")


def test_admin_keys_alone_leave_the_door_to_generate_open() -> None:
    ring = KeyRing(admin_keys=["root"])
    assert ring.identify(None) == ring.identify("sk-none") == Caller()
    admin = ring.identify("root")
    assert (admin.name, admin.scopes) == ("admin-1", frozenset(Scope))
    with pytest.raises(Unauthorized):
        KeyRing(["key-one"], ["root"]).identify(None)


def test_revoking_the_last_admin_key_opens_no_door(path: Path) -> None:
    add_key(path, "ops", scopes=(Scope.ADMIN,))
    revoke(path, "ops")
    assert KeyRing(key_file=KeyFile(path)).has_admin_keys


def test_whether_there_are_admin_keys() -> None:
    assert KeyRing(admin_keys=["root"]).has_admin_keys
    assert not KeyRing().has_admin_keys
    assert not KeyRing(["key-one"]).has_admin_keys


def test_an_admin_key_that_comes_later_is_noticed(path: Path) -> None:
    add_key(path, "alice")
    clock = Clock()
    ring = KeyRing(key_file=KeyFile(path), clock=clock)
    assert not ring.has_admin_keys
    add_key(path, "ops", scopes=(Scope.ADMIN,))
    clock.now += 1
    assert ring.has_admin_keys


def test_a_key_opens_and_names_its_owner_by_place() -> None:
    ring = KeyRing(["key-one", "key-two"])
    assert ring.identify("key-one") == ring.identify("key-one")
    assert ring.identify("key-two") == Caller(name="key-2")


def test_a_key_that_is_both_is_an_admin_key() -> None:
    assert KeyRing(["same"], ["same"]).identify("same").name == "admin-1"


def test_without_keys_the_door_stands_open() -> None:
    assert KeyRing().identify(None) == KeyRing().identify("anything") == Caller()


def test_a_key_of_the_file_is_a_caller_with_all_it_may(path: Path) -> None:
    key = add_key(
        path,
        "alice",
        scopes=(Scope.GENERATE, Scope.METRICS),
        models=("demo",),
        requests_per_minute=1,
        tokens_per_minute=2,
        concurrency=3,
        priority=4,
    )
    ring = KeyRing(["key-one"], key_file=KeyFile(path))
    assert ring.identify(key) == Caller(
        "alice",
        frozenset({Scope.GENERATE, Scope.METRICS}),
        frozenset({"demo"}),
        CallerLimits(1, 2, 3),
        4,
    )
    assert ring.identify("key-one").name == "key-1"


def test_other_limits_are_in_force_within_a_second(path: Path) -> None:
    key = add_key(path, "alice", concurrency=1)
    clock = Clock()
    ring = KeyRing(key_file=KeyFile(path), clock=clock)
    with KeyFile(path).edit() as records:
        records[0] = records[0].model_copy(update={"concurrency": 2})
    clock.now += 1
    assert ring.identify(key).limits.concurrency == 2


@pytest.mark.parametrize("key", ["schlüssel", "密钥", "k" * 10_000, " spaced "])
def test_any_text_can_be_a_key(key: str) -> None:
    ring = KeyRing(iter(["other", key]))
    assert ring.identify(key).name == "key-2"
    assert ring.identify(key).name == "key-2", "an iterator of keys is read once"
    with pytest.raises(Unauthorized):
        ring.identify(key[:-1])


def test_neither_the_ring_nor_the_caller_holds_the_key_itself() -> None:
    ring = KeyRing(["my-secret"])
    assert "my-secret" not in repr(vars(ring))
    assert "my-secret" not in repr(ring.identify("my-secret"))


def test_a_caller_is_known_by_name_while_their_key_is_valid(path: Path) -> None:
    add_key(path, "ann", priority=3, expires_at=NOW + timedelta(hours=1))
    add_key(path, "bob")
    clock = Clock()
    ring = KeyRing(["k"], key_file=KeyFile(path), clock=clock)
    assert (ring.named("ann").priority, ring.named("key-1").name) == (3, "key-1")
    revoke(path, "bob")
    clock.now += 3601
    for name in ("ann", "bob", "anonymous", "nobody"):
        with pytest.raises(Unauthorized, match=name):
            ring.named(name)
    assert KeyRing().named("anonymous") == Caller()
