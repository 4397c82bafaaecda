"""The key file: what is refused, who may write, what is left after a crash."""

from __future__ import annotations

import fcntl
import json
import os
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from llmserve.admission import key_file as key_file_module
from llmserve.admission.key_file import KeyFile
from llmserve.admission.key_record import KeyRecord
from llmserve.errors import ConfigurationError

RECORD: dict[str, Any] = {
    "id": "3f9c01ab",
    "name": "team-a",
    "hash": "0" * 64,
    "scopes": ["generate"],
    "models": None,
    "requests_per_minute": 60,
    "tokens_per_minute": None,
    "concurrency": 4,
    "priority": 1,
    "background": False,
    "created_at": "2026-01-31T12:00:00Z",
    "expires_at": None,
    "revoked_at": None,
}


def record(number: int) -> KeyRecord:
    text = json.dumps(RECORD | {"id": f"{number:08x}", "name": f"n{number}"})
    return KeyRecord.model_validate_json(text)


@pytest.fixture
def file(tmp_path: Path) -> KeyFile:
    return KeyFile(tmp_path / "keys.json")


def put(file: KeyFile, *records: dict[str, Any]) -> None:
    file.path.write_text(json.dumps({"keys": records}))


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"priority": 0}, "field priority"),
        ({"priority": "1"}, "field priority"),
        ({"requests_per_minute": 0}, "field requests_per_minute"),
        ({"concurrency": 1.5}, "field concurrency"),
        ({"scopes": ["generate", "root"]}, "field scopes.1"),
        ({"scopes": []}, "field scopes"),
        ({"models": []}, "field models"),
        ({"hash": "llms-secret"}, "field hash"),
        ({"expires_at": "2026-01-31T12:00:00"}, "field expires_at"),
        ({"expires_at": "soon"}, "field expires_at"),
        ({"name": "anonymous"}, "field name"),
        ({"name": "key-7"}, "field name"),
        ({"name": "two words"}, "field name"),
        ({"name": "line\nbreak"}, "field name"),
        ({"colour": "red"}, "field colour"),
    ],
)
def test_a_mistake_names_file_key_and_field(
    file: KeyFile, change: dict[str, Any], told: str
) -> None:
    put(file, RECORD | {"id": "00000000", "name": "good"}, RECORD | change)
    with pytest.raises(ConfigurationError) as refused:
        file.read()
    assert refused.value.message.startswith(f"key file {file.path}: key '3f9c01ab', {told}: ")
    assert "secret" not in refused.value.message


def test_a_key_without_a_usable_id_is_named_by_its_place(file: KeyFile) -> None:
    for broken in ({k: v for k, v in RECORD.items() if k != "id"}, RECORD | {"id": 5}, "text"):
        put(file, RECORD, broken)  # type: ignore[arg-type]  # broken on purpose
        with pytest.raises(ConfigurationError, match="key number 2"):
            file.read()


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"keys": 1}', '{"keys": [], "x": 1}', "\x00"])
def test_what_is_no_key_file_is_refused(file: KeyFile, text: str) -> None:
    file.path.write_text(text)
    with pytest.raises(ConfigurationError, match=r"keys\.json"):
        file.read()


def test_a_file_that_cannot_be_read_is_told(file: KeyFile) -> None:
    with pytest.raises(ConfigurationError, match="does not exist"):
        file.read()
    file.path.write_bytes(b"\xff\xfe")
    with pytest.raises(ConfigurationError, match="cannot be read"):
        file.read()
    with pytest.raises(ConfigurationError, match="cannot be read"):
        KeyFile(file.path.parent).read()


def test_ids_differ_and_so_do_names_that_are_in_use(file: KeyFile) -> None:
    put(file, RECORD, RECORD | {"name": "other"})
    with pytest.raises(ConfigurationError, match="the id '3f9c01ab'"):
        file.read()
    put(file, RECORD, RECORD | {"id": "00000000"})
    with pytest.raises(ConfigurationError, match="the name 'team-a'"):
        file.read()
    put(file, RECORD | {"revoked_at": "2026-02-01T00:00:00Z"}, RECORD | {"id": "00000000"})
    assert [r.name for r in file.read()] == ["team-a", "team-a"], "a key can be replaced"


def test_an_edit_that_fails_leaves_the_file_and_nothing_beside_it(file: KeyFile) -> None:
    put(file, RECORD)
    before = file.path.read_bytes()
    with pytest.raises(TypeError), file.edit() as records:
        records.clear(1)  # type: ignore[call-arg]  # an exception of the editor's own
    with pytest.raises(ConfigurationError, match="the id"), file.edit() as records:
        records.append(records[0])
    assert file.path.read_bytes() == before
    assert list(file.path.parent.iterdir()) == [file.path]


def test_a_full_disk_leaves_the_file_and_nothing_beside_it(
    file: KeyFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(file, RECORD)
    before = file.path.read_bytes()

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(key_file_module.os, "fsync", full)
    with pytest.raises(ConfigurationError, match="No space left"), file.edit() as records:
        records.clear()
    assert file.path.read_bytes() == before
    assert list(file.path.parent.iterdir()) == [file.path]


def test_a_writer_that_never_ends_is_told_of(
    file: KeyFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(key_file_module, "LOCK_SECONDS", 0.0)
    other = os.open(file.path.parent, os.O_RDONLY)
    try:
        fcntl.flock(other, fcntl.LOCK_EX)
        with (
            pytest.raises(ConfigurationError, match="another process"),
            file.edit(),
        ):
            pass
    finally:
        os.close(other)
    with file.edit() as records:
        assert records == []


def test_no_folder_is_told(tmp_path: Path) -> None:
    missing = KeyFile(tmp_path / "nowhere" / "keys.json")
    with pytest.raises(ConfigurationError, match="nowhere"), missing.edit():
        pass


WRITER = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[3])
from llmserve.admission.key_file import KeyFile
from llmserve.admission.key_record import KeyRecord
template = KeyRecord.model_validate_json(sys.argv[4])
for n in range(10):
    number = int(sys.argv[2]) * 100 + n
    with KeyFile(Path(sys.argv[1])).edit() as records:
        records.append(template.model_copy(update={"id": f"{number:08x}", "name": f"n{number}"}))
"""


def test_several_writers_lose_no_key(file: KeyFile) -> None:
    root = str(Path(key_file_module.__file__).parents[2])
    writers = [
        subprocess.Popen(
            [sys.executable, "-c", WRITER, file.path, str(n), root, json.dumps(RECORD)]
        )
        for n in range(3)
    ]
    try:
        assert [writer.wait(timeout=60) for writer in writers] == [0, 0, 0]
    finally:
        for writer in writers:
            writer.kill()
            writer.wait()
    assert len(file.read()) == 30


def test_only_its_owner_may_read_a_new_file(file: KeyFile) -> None:
    with file.edit() as records:
        records.append(record(1))
    assert stat.S_IMODE(file.path.stat().st_mode) == 0o600
    assert not file.is_readable_by_others()


def test_a_group_that_reads_the_file_still_does_and_others_no_longer(file: KeyFile) -> None:
    put(file, RECORD)
    file.path.chmod(0o664)
    assert file.is_readable_by_others()
    with file.edit():
        pass
    assert stat.S_IMODE(file.path.stat().st_mode) == 0o640


def test_a_symbolic_link_stays_one(file: KeyFile, tmp_path: Path) -> None:
    put(file, RECORD)
    link = tmp_path / "link.json"
    link.symlink_to(file.path)
    with KeyFile(link).edit() as records:
        records.append(record(1))
    assert link.is_symlink()
    assert len(file.read()) == 2


def test_every_change_changes_the_stamp(file: KeyFile) -> None:
    stamps = [file.stamp()]
    put(file, RECORD)
    stamps.append(file.stamp())
    with file.edit() as records:
        records.append(record(1))
    stamps.append(file.stamp())
    assert stamps[0] is None
    assert len(set(stamps)) == 3


def test_what_is_written_is_read_again(file: KeyFile) -> None:
    put(file, RECORD)
    first = file.read()
    with file.edit() as records:
        assert tuple(records) == first
    assert file.read() == first
    assert json.loads(file.path.read_text()) == {"keys": [RECORD]}
