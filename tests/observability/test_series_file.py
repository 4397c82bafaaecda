"""A process's numbers: no room, no file any more; then what prometheus_client reads of them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from open_files import num_open_files
from prometheus_client.mmap_dict import MmapedDict
from small_disk import small_disk

from llmserve.observability.series_file import FIRST_BYTES, SeriesFile

COUNT_ON = """
import sys
from pathlib import Path
from llmserve.observability.metrics import Metrics
metrics = Metrics(Path(sys.argv[1]))
for number in range(300):
    metrics.time_to_first_token.labels(f"model-{number}").observe(0.1)
    metrics.running.labels(f"model-{number}").set(number)
metrics.restore()
text = metrics.render().decode().splitlines()
assert 'llmserve_num_requests_running{model="model-299"} 299.0' in text
assert 'llmserve_time_to_first_token_seconds_count{model="model-0"} 1.0' in text
"""


def read(path: Path) -> dict[str, float]:
    return {key: value for key, value, _, _ in MmapedDict.read_all_values_from_file(str(path))}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "counter_1.1.db"


def fail(*_: object) -> None:
    raise OSError(28, "No space left on device")


def test_without_room_the_numbers_are_kept_until_there_is_some(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = SeriesFile(path)
    with monkeypatch.context() as full:
        full.setattr(os, "posix_fallocate", fail)
        with pytest.raises(OSError, match="No space left"):
            file.publish()
        file.set("a", 1.0, 0.0)
        assert not file.is_published
        assert list(path.parent.iterdir()) == []
    file.publish()
    file.set("b", 2.0, 0.0)
    assert read(path) == {"a": 1.0, "b": 2.0}


def test_without_room_to_grow_others_see_the_old_numbers_until_there_is_some(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = SeriesFile(path)
    file.publish()
    file.set("a", 1.0, 0.0)
    with monkeypatch.context() as full:
        full.setattr(os, "posix_fallocate", fail)
        assert file.get("b" * FIRST_BYTES) == 0.0
        file.set("b" * FIRST_BYTES, 2.0, 0.0)
        file.set("a", 3.0, 0.0)
        assert not file.is_published
        assert read(path) == {"a": 1.0}
        assert file.get("a") == 3.0
    file.publish()
    assert read(path) == {"a": 3.0, "b" * FIRST_BYTES: 2.0}


def test_a_file_that_was_removed_or_replaced_is_made_anew(path: Path) -> None:
    file = SeriesFile(path)
    file.publish()
    file.set("a", 1.0, 0.0)
    path.unlink()
    assert not file.is_published
    file.set("a", 2.0, 0.0)
    file.publish()
    assert read(path) == {"a": 2.0}
    (path.parent / "other").write_bytes(b"\0" * 16)
    (path.parent / "other").rename(path)
    assert not file.is_published
    file.publish()
    file.set("a", 3.0, 0.0)
    assert read(path) == {"a": 3.0}


def test_a_directory_that_is_gone_is_an_error_and_leaves_no_descriptor(path: Path) -> None:
    file = SeriesFile(path.parent / "gone" / path.name)
    before = num_open_files()
    with pytest.raises(FileNotFoundError):
        file.publish()
    assert num_open_files() == before


def test_all_of_a_file_has_its_room_on_the_disk(path: Path) -> None:
    file = SeriesFile(path)
    file.publish()
    file.set("a" * FIRST_BYTES, 1.0, 0.0)
    assert path.stat().st_size > FIRST_BYTES
    assert path.stat().st_blocks * 512 >= path.stat().st_size


def test_a_new_start_has_every_key_at_zero_in_another_file(path: Path) -> None:
    file = SeriesFile(path)
    file.publish()
    file.set("a", 1.0, 0.0)
    other = path.with_name("counter_2.1.db")
    file.start_anew(other)
    file.publish()
    file.set("b", 2.0, 0.0)
    assert (read(path), read(other)) == ({"a": 1.0}, {"a": 0.0, "b": 2.0})


keys = st.text(max_size=40) | st.sampled_from(["a", "b" * 3000])
steps = st.lists(st.tuples(keys, st.floats(allow_nan=False)), max_size=60)


@settings(deadline=None, max_examples=50)
@given(steps)
def test_what_is_read_is_what_prometheus_client_would_have_written(
    tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[str, float]]
) -> None:
    folder = tmp_path_factory.mktemp("series")
    file, theirs = SeriesFile(folder / "ours.db"), MmapedDict(str(folder / "theirs.db"))
    file.publish()
    for key, value in steps:
        file.set(key, value, 1.5)
        theirs.write_value(key, value, 1.5)
    used = theirs._used
    theirs.close()
    assert (folder / "ours.db").read_bytes()[:used] == (folder / "theirs.db").read_bytes()[:used]
    assert dict(file.items()) == read(folder / "theirs.db")


@pytest.mark.parametrize("num_bytes", [16 * 1024, 600 * 1024])
def test_a_disk_that_fills_up_kills_nobody(tmp_path: Path, num_bytes: int) -> None:
    with small_disk(tmp_path / "disk", num_bytes) as disk:
        command = [sys.executable, "-c", COUNT_ON, str(disk.path)]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=100)
        assert done.returncode == 0, done.stderr
        assert done.stderr.count("ERROR") == 1
        assert "No space left on device" in done.stderr
