"""Files of workers that are half made, corrupt, or gone: told once, and the others count."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from loguru import logger
from observability.series import COUNTER, SECONDS, Log, totals, write
from prometheus_client.mmap_dict import mmap_key

from llmserve.observability import history
from llmserve.observability.exposition import Exposition
from llmserve.observability.worker_files import WorkerFiles


def test_a_worker_killed_between_making_and_filling_a_file_breaks_nothing(tmp_path: Path) -> None:
    write(tmp_path, "counter_1.1.db", {COUNTER: 3.0})
    for name in ("counter_2.1.db", "gauge_livesum_2.1.db", "histogram_2.1.db"):
        (tmp_path / name).touch()
    assert totals(WorkerFiles(tmp_path, is_alive=lambda _: True)) == {"c_total": 3.0}
    assert totals(WorkerFiles(tmp_path, is_alive=lambda _: False, max_dead_files=0)) == {
        "c_total": 3.0
    }


CORRUPT = {
    "short": b"\1\2\3",
    "noise": bytes(range(255, 0, -1)) * 40,
    "too long": b"\xff\xff\xff\x7f" + bytes(60),
    "negative": b"\xff\0\0\0\0\0\0\0\xe4\xff\xff\xff" + bytes(300),
}


@pytest.mark.parametrize("content", CORRUPT.values(), ids=CORRUPT)
@pytest.mark.parametrize("name", ["counter_1-2.db", "counter_3.1.db", "gauge_livesum_3.1.db"])
def test_a_corrupt_file_is_left_out_and_told_once(
    tmp_path: Path, name: str, content: bytes
) -> None:
    write(tmp_path, "counter_1.1.db", {COUNTER: 3.0})
    (tmp_path / name).write_bytes(content)
    with Log() as log:
        files = WorkerFiles(tmp_path, is_alive=lambda _: True)
        for _ in range(3):
            assert totals(files) == {"c_total": 3.0}
        (tmp_path / name).unlink()
        assert totals(files) == {"c_total": 3.0}
    assert len(log) == 2
    assert f"{name} is corrupt" in log[0]
    assert "resolved: " in log[1]


@pytest.mark.parametrize(
    ("name", "key", "value"),
    [
        ("counter_3.1.db", "no json", 1.0),
        ("counter_3.1.db", "[1, 2, 3, 4]", 1.0),
        ("counter_3.1.db", "[" * 100_000, 1.0),
        ("counter_3.1.db", '["", "", {}, ""]', 1.0),
        ("counter_3.1.db", r'["c", "c", {"l": "\ud800"}, ""]', 1.0),
        ("histogram_3.1.db", '["h", "h_bucket", {"le": "much"}, ""]', 1.0),
        ("surprise_3.1.db", COUNTER, 1.0),
        ("surprise.db", COUNTER, 1.0),
    ],
)
def test_what_is_no_series_is_left_out_and_told(
    tmp_path: Path, name: str, key: str, value: float
) -> None:
    write(tmp_path, "counter_1.1.db", {COUNTER: 3.0})
    write(tmp_path, name, {mmap_key("x", "x_total", [], [], "Text."): 1.0, key: value})
    with Log() as log:
        assert totals(WorkerFiles(tmp_path, is_alive=lambda _: True)) == {"c_total": 3.0}
    assert f"{name} is corrupt" in log[0]


@pytest.mark.parametrize(
    "content",
    [
        "", "garbage", "[]", "{}", "[" * 100_000, '{"sums": [], "absorbed": []}',
        '{"sums": {"counter": {"no key": 1.0}}, "absorbed": []}',
        '{"sums": {}, "absorbed": ["../elsewhere.db"]}', '{"sums": {}, "absorbed": [3]}',
        '{"sums": {"counter": 3}, "absorbed": []}',
        json.dumps({"sums": {"counter": {COUNTER: "many"}}, "absorbed": []}),
    ],
)  # fmt: skip
def test_a_corrupt_history_is_told_and_put_aside_when_another_is_made(
    tmp_path: Path, content: str
) -> None:
    write(tmp_path, "counter_1.1.db", {COUNTER: 3.0})
    elsewhere = tmp_path.parent / "elsewhere.db"
    elsewhere.touch()
    (tmp_path / history.NAME).write_text(content)
    with Log() as log:
        files = WorkerFiles(tmp_path, is_alive=lambda _: False, max_dead_files=1)
        assert totals(files) == {"c_total": 3.0}
        write(tmp_path, "counter_2.1.db", {COUNTER: 4.0})
        assert totals(files) == {"c_total": 7.0}
    assert len(log) == 2
    assert f"{history.NAME} is corrupt" in log[0]
    assert (tmp_path / "history.json.corrupt").read_text() == content
    assert list(tmp_path.glob("*.db")) == []
    assert elsewhere.exists()


def test_a_dead_workers_corrupt_file_stays_and_the_others_become_history(tmp_path: Path) -> None:
    for number in (1, 2):
        write(tmp_path, f"counter_{number}.1.db", {COUNTER: 3.0})
    (tmp_path / "counter_3.1.db").write_bytes(b"abc")
    files = WorkerFiles(tmp_path, is_alive=lambda _: False, max_dead_files=1)
    for _ in range(2):
        assert totals(files) == {"c_total": 6.0}
    assert [f.name for f in tmp_path.glob("*.db")] == ["counter_3.1.db"]


@pytest.mark.parametrize("kind", ["file", "no reading", "a directory for a file"])
def test_a_directory_that_is_none_is_an_answer_of_what_this_process_has(
    tmp_path: Path, kind: str
) -> None:
    directory = tmp_path / "metrics"
    if kind == "file":
        directory.touch()
    else:
        (directory / "counter_1.1.db" / "x").mkdir(parents=True)
    if kind == "no reading":
        (directory / history.NAME).mkdir()
    own = {"counter_2.1.db": {COUNTER: 3.0}}
    with Log() as log:
        for dead in (100, 0):
            files = WorkerFiles(
                directory, unpublished=lambda: own, is_alive=lambda _: False, max_dead_files=dead
            )
            assert totals(files) == {"c_total": 3.0}
    assert "not all series in" in log[0]


changes = st.lists(st.tuples(st.integers(0, 400), st.binary(min_size=1, max_size=12)), max_size=4)


@settings(deadline=None, max_examples=300)
@given(changes, st.integers(0, 70_000))
def test_whatever_happens_to_a_files_bytes_there_is_an_answer(
    changes: list[tuple[int, bytes]], length: int
) -> None:
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        write(directory, "counter_1.1.db", {COUNTER: 3.0})
        key = mmap_key("h", "h_bucket", ["model", "le"], ["m", "+Inf"], "Text.")
        write(directory, "histogram_2.1.db", {SECONDS: 1.0, key: 2.0})
        file = directory / "histogram_2.1.db"
        content = bytearray(file.read_bytes())
        for place, noise in changes:
            content[place : place + len(noise)] = noise
        file.write_bytes(content[:length])
        text = Exposition(WorkerFiles(directory, is_alive=lambda _: True), "vllm").render()
        assert b'c_total{model="m"} 3.0' in text


def test_what_vanishes_while_it_is_read_breaks_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path, "counter_1.1.db", {COUNTER: 3.0})
    write(tmp_path, "counter_2.1.db", {COUNTER: 4.0})
    read = history._values

    def cleaned(file: Path) -> Any:
        if file.name == "counter_1.1.db":
            file.unlink()
        return read(file)

    monkeypatch.setattr(history, "_values", cleaned)
    assert totals(WorkerFiles(tmp_path, is_alive=lambda _: True)) == {"c_total": 4.0}


def test_on_a_full_disk_dead_workers_files_stay_and_count_and_it_is_told_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log: list[str] = []
    sink = logger.add(log.append, format="{message}", level="INFO")
    for number in range(3):
        write(tmp_path, f"counter_{number}.1.db", {COUNTER: 1.0})
    files = WorkerFiles(tmp_path, is_alive=lambda _: False, max_dead_files=1)

    def full(self: Path, text: str) -> None:
        with self.open("w") as file:
            file.write(text[:7])
        raise OSError(28, "No space left on device")

    try:
        with monkeypatch.context() as patched:
            patched.setattr(Path, "write_text", full)
            for _ in range(3):
                assert totals(files) == {"c_total": 3.0}
        assert sorted(f.suffix for f in tmp_path.iterdir()) == [".db"] * 3
        assert totals(files) == {"c_total": 3.0}
        assert list(tmp_path.glob("*.db")) == []
    finally:
        logger.remove(sink)
    assert len(log) == 2
    assert "No space left" in log[0]
    assert "resolved: " in log[1]
