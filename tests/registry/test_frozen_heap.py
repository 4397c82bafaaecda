"""The garbage collector's view of long-lived objects."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Iterator

import pytest

from llmserve.registry.frozen_heap import freeze_heap, thawed_heap


class Ring:
    """Only a collection finds it, once nobody holds it."""

    def __init__(self) -> None:
        self.itself = self


@pytest.fixture(autouse=True)
def heap() -> Iterator[None]:
    yield
    gc.unfreeze()


def test_garbage_is_collected_before_the_rest_is_frozen() -> None:
    gone = weakref.ref(Ring())
    freeze_heap()
    assert gone() is None
    assert gc.get_freeze_count() > 0


def test_what_was_frozen_can_be_let_go_in_a_thawed_heap() -> None:
    ring = Ring()
    gone = weakref.ref(ring)
    freeze_heap()
    del ring
    gc.collect()
    assert gone() is not None, "frozen objects are not looked at"
    with thawed_heap():
        gc.collect()
        assert gone() is None
    assert gc.get_freeze_count() > 0


def test_the_heap_is_frozen_again_though_letting_go_failed() -> None:
    freeze_heap()
    with pytest.raises(RuntimeError), thawed_heap():
        raise RuntimeError
    assert gc.get_freeze_count() > 0
