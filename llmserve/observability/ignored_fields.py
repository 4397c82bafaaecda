"""Fields of requests that the server ignored: logged once per client, and counted."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable
from typing import Final

from loguru import logger

from llmserve.observability.metrics import Metrics

MAX_KNOWN: Final = 4096
"""How many fields of clients are remembered; the least recently seen one is then logged again."""


class IgnoredFields:
    """Reports ignored fields. Owned by the event loop's thread.

    Names must be safe to log, and of bounded length.
    """

    def __init__(self, metrics: Metrics, max_known: int = MAX_KNOWN) -> None:
        self._metrics = metrics
        self._max_known = max_known
        self._known: OrderedDict[tuple[str, str], None] = OrderedDict()

    def tell(self, client: str, fields: Iterable[str]) -> None:
        """Count the fields, and log those that are new for this client, in one line."""
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
            logger.info("{} sends fields that are ignored: {}", client, ", ".join(new))
