"""What operators loaded and unloaded: damaged, vanished, no room; then kept."""

from __future__ import annotations

from pathlib import Path

import pytest
from loguru import logger
from small_disk import small_disk

from llmserve.operations.desired import FILE, Desired, DesiredModels


def test_a_damaged_file_is_told_and_the_settings_models_are_served(tmp_path: Path) -> None:
    log: list[str] = []
    sink = logger.add(log.append, format="{message}", level="ERROR")
    try:
        for text in ("", "[]", "{}", '{"loaded": 1, "unloaded": []}'):
            (tmp_path / FILE).write_text(text)
            assert DesiredModels(tmp_path).known == Desired()
    finally:
        logger.remove(sink)
    assert len(log) == 4
    assert str(tmp_path) in log[0]


def test_a_file_that_vanished_is_written_again_by_whoever_knows(tmp_path: Path) -> None:
    DesiredModels(tmp_path).change(lambda d: d.with_loaded("a"))
    worker = DesiredModels(tmp_path)
    (tmp_path / FILE).unlink()
    worker.restore()
    assert DesiredModels(tmp_path).known == Desired(loaded=("a",))
    (tmp_path / FILE).unlink()
    worker.change(lambda d: d.with_unloaded("b"))
    assert DesiredModels(tmp_path).known == Desired(("a",), ("b",))


def test_where_nobody_changed_anything_no_file_appears(tmp_path: Path) -> None:
    worker = DesiredModels(tmp_path)
    worker.restore()
    assert list(tmp_path.iterdir()) == []


def test_without_room_a_change_is_an_error_and_comes_after_what_others_wrote(
    tmp_path: Path,
) -> None:
    with small_disk(tmp_path / "disk", 64 * 1024) as disk:
        one, other = DesiredModels(disk.path), DesiredModels(disk.path)
        one.change(lambda d: d.with_loaded("a"))
        disk.fill()
        with pytest.raises(OSError, match="No space left"):
            one.change(lambda d: d.with_loaded("b"))
        with pytest.raises(OSError, match="No space left"):
            one.restore()
        assert DesiredModels(disk.path).known == Desired(loaded=("a",))
        disk.free()
        other.change(lambda d: d.with_loaded("c"))
        one.restore()
        assert DesiredModels(disk.path).known == Desired(loaded=("a", "c", "b"))


def test_alone_it_is_kept_nowhere() -> None:
    alone = DesiredModels(None)
    alone.change(lambda d: d.with_loaded("a"))
    alone.restore()
    assert alone.known == Desired()


def test_what_is_unloaded_is_not_loaded_at_the_next_start_and_the_other_way_round() -> None:
    desired = Desired().with_unloaded("b").with_loaded("c").with_loaded("c")
    assert desired.applied_to(["a", "b"]) == ["a", "c"]
    assert desired.with_loaded("b").applied_to(["a", "b"]) == ["a", "b", "c"]
    assert desired.with_unloaded("c").applied_to(["a", "b"]) == ["a"]


def test_drained_upstreams_are_kept_beside_what_others_wrote(tmp_path: Path) -> None:
    DesiredModels(tmp_path).change(lambda d: d.with_upstream("m", "http://a", is_drained=True))
    worker = DesiredModels(tmp_path)
    assert worker.known == Desired(drained=(("m", "http://a"),))
    worker.change(lambda d: d.with_loaded("x"))
    worker.change(lambda d: d.with_upstream("m", "http://b", is_drained=True))
    worker.change(lambda d: d.with_upstream("m", "http://a", is_drained=False))
    assert DesiredModels(tmp_path).known == Desired(("x",), (), (("m", "http://b"),))


def test_a_file_of_an_earlier_version_knows_no_upstreams(tmp_path: Path) -> None:
    (tmp_path / FILE).write_text('{"loaded": ["a"], "unloaded": []}')
    assert DesiredModels(tmp_path).known == Desired(("a",))
