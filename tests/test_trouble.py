"""What fails again and again is told once."""

from __future__ import annotations

from loguru import logger

from llmserve.trouble import Trouble


def test_it_is_told_once_and_once_more_when_it_is_over_and_again_when_it_comes_back() -> None:
    log: list[str] = []
    sink = logger.add(log.append, format="{level} {message}", level="INFO")
    trouble = Trouble("the ink is out", "nothing is printed")
    try:
        trouble.is_over()
        for _ in range(3):
            trouble.begins(OSError(28, "No space left on device"))
        trouble.is_over()
        trouble.is_over()
        trouble.begins(OSError(28, "No space left on device"))
    finally:
        logger.remove(sink)
    told = "ERROR the ink is out: [Errno 28] No space left on device; nothing is printed\n"
    assert log == [told, "INFO resolved: the ink is out\n", told]
