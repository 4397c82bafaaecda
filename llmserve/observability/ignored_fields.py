"""Fields that clients sent and nobody read: a line in the log for each, and a count."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable
from typing import Final

from loguru import logger

from llmserve.observability.metrics import Metrics

MAX_KNOWN: Final = 4096
"""Fields of clients that are remembered; the one not seen for longest is logged anew."""


class IgnoredFields:
    """Owned by the event loop's thread. Names must be safe to log, and of bounded length."""

    def __init__(self, metrics: Metrics, max_known: int = MAX_KNOWN) -> None:
        self._metrics = metrics
        self._max_known = max_known
        self._known: OrderedDict[tuple[str, str], None] = OrderedDict()

    def tell(self, client: str, fields: Iterable[str]) -> None:
        """Count them, and log those that are new of this client, in one line."""
        new = []
        for field in fields:
            place = field.rpartition(".")[0] or "body"
            self._metrics.ignored_fields.labels(place).inc()
            if (client, field) not in self._known:
                new.append(field)
            self._known[client, field] = None
            self._known.move_to_end((client, field))
        while len(self._known) > self._max_known:
            self._known.popitem(last=False)
        if new:
            logger.info("{} sends fields that nobody reads here: {}", client, ", ".join(new))
