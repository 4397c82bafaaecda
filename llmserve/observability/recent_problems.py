"""The last warnings and errors of this process's log, for operators who do not read it."""

from __future__ import annotations

import contextlib
from collections import deque
from typing import TYPE_CHECKING, Any, Final, Self

from loguru import logger

if TYPE_CHECKING:
    from loguru import Message

MOST: Final = 20
MAX_LETTERS: Final = 300
LEVEL: Final = "WARNING"


class RecentProblems:
    """Kept from `start` to `close`. Logs have no prompts and no keys, so neither has this.

    A list that several threads append to, and any may read."""

    def __init__(self) -> None:
        self._last: deque[dict[str, Any]] = deque(maxlen=MOST)
        self._sink: int | None = None

    def start(self) -> Self:
        """Listen to the log from now on."""
        self._sink = logger.add(self._keep, level=LEVEL, format="{message}", catch=True)
        return self

    def close(self) -> None:
        """Listen no more."""
        if self._sink is not None:
            with contextlib.suppress(ValueError):  # logging, configured anew, removes all sinks
                logger.remove(self._sink)
            self._sink = None

    def read(self) -> list[dict[str, Any]]:
        """The newest last: when (seconds since 1970), how bad, what, and of which request."""
        return list(self._last)

    def _keep(self, message: Message) -> None:
        record = message.record
        self._last.append(
            {
                "time": round(record["time"].timestamp(), 3),
                "level": record["level"].name,
                "message": record["message"][:MAX_LETTERS],
                "request_id": record["extra"].get("request_id"),
            }
        )
