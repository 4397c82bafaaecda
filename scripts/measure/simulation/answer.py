"""One request on its way through a front and a box."""

from __future__ import annotations

from collections.abc import Callable

from llmserve.admission.gate import Ticket
from llmserve.engines.batching.schedule.sequence import Sequence
from measure.simulation.request import Request
from measure.simulation.text import extended, length, token_ids


class Answer:
    """Counts in ids, each of which stands for `grain` tokens.

    Attributes:
        ids: of the prompt, then of the answer that will be generated.
        is_counted: whether it was sent while it is counted.
        on_first: called with the seconds until the first token.
        on_token: called with the seconds since the token before, for each later one.
        on_end: called once, with the error that ended it, if there was one.
    """

    on_first: Callable[[Answer, float], None]
    on_token: Callable[[Answer, float], None]
    on_end: Callable[[Answer, str | None], None]

    def __init__(self, request: Request, grain: int, now: float) -> None:
        self.request = request
        self.sent_at = now
        self.prompt_tokens = length(request.prompt)
        self.ticket: Ticket | None = None
        self.is_counted = False
        self.is_over = False
        prompt_ids = token_ids(request.prompt, grain)
        most = len(prompt_ids) + -(-request.answer_tokens // grain)
        self.ids = token_ids(extended(request.prompt, (most + 1) * grain), grain)[:most]
        self.sequence = Sequence(
            prompt_ids, caller=request.caller, max_new_tokens=most - len(prompt_ids)
        )
        self._grain = grain
        self._last_at: float | None = None

    @property
    def is_complete(self) -> bool:
        """Whether all of it was generated."""
        return len(self.sequence.token_ids) == len(self.ids)

    @property
    def cached_tokens(self) -> int:
        """Of the prompt, found in the prefix cache."""
        return min(self.sequence.num_cached * self._grain, self.prompt_tokens)

    def token(self, now: float) -> None:
        """The next one is there."""
        before, self._last_at = self._last_at, now
        if before is None:
            self.on_first(self, now - self.sent_at)
        else:
            self.on_token(self, now - before)

    def end(self, error: str | None = None) -> None:
        """Nothing more will come of it."""
        assert not self.is_over, "a request ends once"
        self.is_over = True
        self.on_end(self, error)
