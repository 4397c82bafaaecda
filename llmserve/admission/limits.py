"""Rate limits per caller, held over all workers of a box. Knows no HTTP."""

from __future__ import annotations

import math
from collections import Counter
from pathlib import Path
from typing import Final, TypeVar

from llmserve.admission.holder import Holder
from llmserve.admission.ledger import Change, Ledger, PrivateLedger, SharedLedger
from llmserve.admission.quota import Quota, Remainder, headers
from llmserve.admission.tab import TOLERANCE, Tab, TokenBucket
from llmserve.clock import AwakeClock, awake_clock
from llmserve.domain import Caller, CallerLimits
from llmserve.errors import InvalidRequest, RateLimited
from llmserve.trouble import Trouble

CONCURRENCY_RETRY_SECONDS: Final = 1.0
"""A guess: when one of the caller's open requests will end is unknown."""

APART_SECONDS: Final = 10.0
"""How long a worker keeps tabs of its own after the shared ones failed."""

UNLIMITED: Final = CallerLimits()
T = TypeVar("T")


class Admission:
    """Requests of one caller that were admitted together; to be closed after the last has ended."""

    def __init__(self, limiter: Limiter | None, caller: Caller, requests: int) -> None:
        self._limiter = limiter
        self._caller = caller
        self._requests = requests

    def charge(self, prompt_tokens: int) -> None:
        """Charge the prompts' tokens, which were not known on admission.

        Raises:
            InvalidRequest: the prompt is over the limits at any time.
            RateLimited: over the limit now.
        """
        if self._limiter is not None:
            self._limiter._charge(self._caller, prompt_tokens)

    def refund(self) -> None:
        """Give the requests back: they failed through no fault of the caller."""
        if self._limiter is not None:
            self._limiter._refund(self._caller, self._requests)

    def close(self, tokens: int = 0) -> None:
        """Release the open requests and charge the answer's tokens; doing it twice is harmless.
        Negative where the prompts turned out shorter than what was charged for them."""
        limiter, self._limiter = self._limiter, None
        if limiter is not None:
            limiter._close(self._caller, self._requests, tokens)


class Limiter:
    """Admits a caller's requests while its key is within its limits.

    Requests and tokens per minute are token buckets that start full. The prompt's tokens are
    charged on admission, or as soon as they are counted, the answer's when it has ended: that may
    put the bucket into debt, which the caller's next request has to wait for. All parts of a
    request are admitted, or none.

    `directory` is shared by the workers of a box; `None` means that this process is alone.
    When the directory fails, this worker counts for itself for a while and logs it: a full disk
    does not stop the service. Time in which the box was paused fills no bucket, as nobody was
    served meanwhile. Owned by the event loop's thread; made in the process that uses it, not
    before a fork.
    """

    def __init__(self, directory: Path | None, clock: AwakeClock = awake_clock) -> None:
        self._shared: Ledger | None = SharedLedger(directory) if directory is not None else None
        self._private: Ledger = PrivateLedger()
        self._failed_at = -math.inf
        self._trouble = Trouble(
            "rate limits cannot be shared with the other workers",
            f"this worker counts for itself and tries again every {APART_SECONDS:.0f} s",
        )
        self._clock = clock
        self._holder = Holder.here()
        self._open: Counter[str] = Counter()

    def admit(
        self, caller: Caller, *, requests: int, prompt_tokens: int | None = None
    ) -> Admission:
        """Admit all of the requests, with so many prompt tokens in total, or none.

        `prompt_tokens=None` is for prompts that are not tokenized yet: there must be room for one
        token of each, and `Admission.charge` charges them later.

        Raises:
            InvalidRequest: the request is over the limits at any time.
            RateLimited: over a limit now; says which, and when to try again.
        """
        limits = caller.limits
        if limits == UNLIMITED:
            return Admission(None, caller, requests)
        _check_requests_possible(caller, requests)
        if prompt_tokens is not None:
            _check_tokens_possible(caller, prompt_tokens)
        needed = requests if prompt_tokens is None else prompt_tokens
        mine = self._open[caller.name]

        def enter(tab: Tab) -> RateLimited | None:
            # The clock is read under the lock, so that times on a tab never go backwards.
            _bring_up_to_date(tab, limits, self._clock)
            tab.set_open(self._holder, mine)
            found = (
                _shortage(tab.requests, limits.requests_per_minute, requests, "requests", caller),
                _shortage(tab.tokens, limits.tokens_per_minute, needed, "tokens", caller),
                self._crowding(tab, caller, requests),
            )
            if refusals := [refusal for refusal in found if refusal is not None]:
                return max(refusals, key=lambda refusal: refusal.retry_after_seconds or 0)
            tab.requests.level -= requests if limits.requests_per_minute is not None else 0
            if limits.tokens_per_minute is not None:
                tab.tokens.level -= prompt_tokens or 0
            tab.set_open(self._holder, mine + requests)
            return None

        if (refusal := self._update(caller.name, enter)) is not None:
            raise refusal
        self._open[caller.name] = mine + requests
        return Admission(self, caller, requests)

    def quota(self, caller: Caller) -> Quota | None:
        """What the caller has left now; `None` if neither requests nor tokens are limited."""
        limits = caller.limits
        if limits.requests_per_minute is None and limits.tokens_per_minute is None:
            return None

        def look(tab: Tab) -> Quota:
            _bring_up_to_date(tab, limits, self._clock)
            return Quota(
                _remainder(tab.requests, limits.requests_per_minute),
                _remainder(tab.tokens, limits.tokens_per_minute),
            )

        return self._update(caller.name, look)

    def _charge(self, caller: Caller, prompt_tokens: int) -> None:
        limit = caller.limits.tokens_per_minute
        if limit is None:
            return
        _check_tokens_possible(caller, prompt_tokens)

        def pay(tab: Tab) -> RateLimited | None:
            _bring_up_to_date(tab, caller.limits, self._clock)
            refusal = _shortage(tab.tokens, limit, prompt_tokens, "tokens", caller)
            tab.tokens.level -= prompt_tokens if refusal is None else 0
            return refusal

        if (refusal := self._update(caller.name, pay)) is not None:
            raise refusal

    def _refund(self, caller: Caller, requests: int) -> None:
        if caller.limits.requests_per_minute is None:
            return

        def give_back(tab: Tab) -> None:
            _refill(tab.requests, self._clock)
            tab.requests.level = min(tab.requests.capacity, tab.requests.level + requests)

        self._update(caller.name, give_back)

    def _close(self, caller: Caller, requests: int, tokens: int) -> None:
        mine = self._open[caller.name] - requests
        if mine:
            self._open[caller.name] = mine
        else:
            del self._open[caller.name]

        def leave(tab: Tab) -> None:
            if caller.limits.tokens_per_minute is not None:
                # With the tab's own capacity: the limit may have changed meanwhile.
                _refill(tab.tokens, self._clock)
                tab.tokens.level = min(tab.tokens.capacity, tab.tokens.level - tokens)
            tab.set_open(self._holder, mine)

        self._update(caller.name, leave)

    def _crowding(self, tab: Tab, caller: Caller, requests: int) -> RateLimited | None:
        most = caller.limits.concurrency
        if most is None or sum(tab.open.values()) + requests <= most:
            return None
        # Only now is it worth checking which holders are still alive.
        tab.drop_dead(self._holder)
        if sum(tab.open.values()) + requests <= most:
            return None
        return RateLimited(
            f"key {caller.name} is over its limit of {most:,} open requests; "
            "wait until one of them has ended",
            retry_after_seconds=CONCURRENCY_RETRY_SECONDS,
        )

    def _update(self, name: str, change: Change[T]) -> T:
        if self._shared is not None and not 0 <= self._clock() - self._failed_at < APART_SECONDS:
            try:
                result = self._shared.update(name, change)
            except OSError as error:
                self._failed_at = self._clock()
                self._trouble.begins(error)
            else:
                self._trouble.is_over()
                return result
        return self._private.update(name, change)


def _check_requests_possible(caller: Caller, requests: int) -> None:
    limits = caller.limits
    for most, unit in (
        (limits.requests_per_minute, "per minute"),
        (limits.concurrency, "at a time"),
    ):
        if most is not None and requests > most:
            raise InvalidRequest(
                f"this counts as {requests:,} requests and key {caller.name} may make {most:,} "
                f"{unit}; split it",
                param="n",
            )


def _check_tokens_possible(caller: Caller, prompt_tokens: int) -> None:
    most = caller.limits.tokens_per_minute
    if most is not None and prompt_tokens > most:
        raise InvalidRequest(
            f"the prompt has {prompt_tokens:,} tokens and key {caller.name} may use {most:,} per "
            "minute; shorten it, or ask the operator for a higher limit"
        )


def _bring_up_to_date(tab: Tab, limits: CallerLimits, clock: AwakeClock) -> None:
    for bucket, capacity in (
        (tab.requests, limits.requests_per_minute),
        (tab.tokens, limits.tokens_per_minute),
    ):
        if capacity is not None:
            # In this order: after a limit was raised, the bucket fills at the new rate.
            bucket.resize(capacity)
            _refill(bucket, clock)


def _refill(bucket: TokenBucket, clock: AwakeClock) -> None:
    now = clock.machine()
    bucket.refill(now, clock.slept(bucket.at, now))


def _shortage(
    bucket: TokenBucket, limit: int | None, needed: int, unit: str, caller: Caller
) -> RateLimited | None:
    if limit is None or (wait := bucket.seconds_until(needed)) <= 0:
        return None
    return RateLimited(
        f"key {caller.name} is over its limit of {limit:,} {unit} per minute; "
        f"try again in {math.ceil(wait):,} s",
        retry_after_seconds=wait,
    )


def _remainder(bucket: TokenBucket, limit: int | None) -> Remainder | None:
    if limit is None:
        return None
    remaining = max(0, math.floor(bucket.level + TOLERANCE))
    return Remainder(limit, remaining, bucket.seconds_until(limit))


__all__ = ["Admission", "Limiter", "Quota", "Remainder", "headers"]
