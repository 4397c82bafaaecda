"""The door to constrained output: a constraint in, what makes each answer's rule out."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Final

from llmserve.clock import awake_clock
from llmserve.domain import Caller, Constraint, ConstraintKind
from llmserve.engines.constraints.compilation import Compiled, compile_constraint
from llmserve.engines.constraints.deep_stack import on_deep_stack
from llmserve.engines.constraints.vocabulary import Vocabulary
from llmserve.engines.engine import Hold
from llmserve.engines.preparation import PreparationPool
from llmserve.engines.token_rule import AnswerRule
from llmserve.errors import InvalidRequest, LLMServeError

MAX_ENTRIES: Final = 64
"""Each takes up to 40 MiB, as `LIMITS` has it."""
MAX_CHARS: Final = 2**22
"""Characters of all constraints in the cache: a grammar takes memory in proportion."""

ANONYMOUS: Final = Caller("anonymous")

Key = tuple[ConstraintKind, str]


def _no_hold() -> Callable[[], None]:
    return lambda: None


@dataclass(frozen=True, slots=True)
class _Refusal:
    """Why a constraint was refused, without the name of the field that it was in."""

    why: str


class ConstraintCompiler:
    """Compiles for one loaded model. Owned by the event loop; the work is done on threads of its
    own, so that a prompt never waits for a grammar.

    Equal constraints are compiled once, also while the first of them is still being compiled.
    What was compiled or refused is kept, least recently used first to go; what is spent is compiled
    again.
    """

    def __init__(
        self, name: str, vocabulary: Vocabulary, clock: Callable[[], float] = awake_clock
    ) -> None:
        """`name` is the model's, for the threads'."""
        self._vocabulary = vocabulary
        self._pool = PreparationPool(f"{name}-constraints", clock)
        self._cache: OrderedDict[Key, Compiled | _Refusal] = OrderedDict()
        self._chars = 0
        self._flights: dict[Key, asyncio.Future[Compiled | _Refusal]] = {}

    @property
    def seconds_running(self) -> float | None:
        """Age of the oldest compilation, `None` when there is none."""
        return self._pool.seconds_running

    async def compile(
        self,
        constraint: Constraint,
        *,
        caller: Caller = ANONYMOUS,
        hold: Hold = _no_hold,
    ) -> Callable[[], AnswerRule]:
        """What makes a new rule for each answer.

        `hold` is called if this begins work, which goes on though the caller leaves.

        Raises:
            InvalidRequest: the constraint cannot be served; names its `param`.
            QueueFull: too much waits to be compiled.
            LLMServeError: what `fail` and `close` were given.
        """
        key = (constraint.kind, constraint.source)
        compiled = self._cache.get(key)
        if compiled is None or (isinstance(compiled, Compiled) and compiled.is_spent):
            # A caller who leaves does not take it away from the others.
            compiled = await asyncio.shield(self._flight(key, caller, hold))
        else:
            self._cache.move_to_end(key)
        if isinstance(compiled, _Refusal):
            raise InvalidRequest(
                f"{constraint.param} cannot be served: {compiled.why}", param=constraint.param
            )
        return compiled.new_rule

    def fail(self, error: LLMServeError) -> int:
        """Whoever waits gets this error; returns how many compilations that ends."""
        return self._pool.fail(error)

    def close(self, error: LLMServeError) -> None:
        """Compile nothing more. Doing it twice is harmless."""
        self._pool.close(error)
        self._cache.clear()
        self._chars = 0

    def _flight(self, key: Key, caller: Caller, hold: Hold) -> asyncio.Future[Compiled | _Refusal]:
        flight = self._flights.get(key)
        if flight is None:
            flight = asyncio.ensure_future(self._compile(key, caller, hold()))
            self._flights[key] = flight
            flight.add_done_callback(partial(self._landed, key))
        return flight

    async def _compile(
        self, key: Key, caller: Caller, on_end: Callable[[], None]
    ) -> Compiled | _Refusal:
        return await self._pool.run(
            partial(_compiled, Constraint(*key), self._vocabulary),
            size=len(key[1]),
            caller=caller.name,
            priority=caller.priority,
            on_end=on_end,
        )

    def _landed(self, key: Key, flight: asyncio.Future[Compiled | _Refusal]) -> None:
        del self._flights[key]
        if flight.cancelled() or flight.exception() is not None:
            return
        if self._cache.pop(key, None) is not None:  # it was spent
            self._chars -= len(key[1])
        self._cache[key] = flight.result()
        self._chars += len(key[1])
        while len(self._cache) > MAX_ENTRIES or self._chars > MAX_CHARS:
            (_, source), _ = self._cache.popitem(last=False)
            self._chars -= len(source)


def _compiled(constraint: Constraint, vocabulary: Vocabulary) -> Compiled | _Refusal:
    try:
        return on_deep_stack(lambda: compile_constraint(constraint, vocabulary))
    except InvalidRequest as error:
        return _Refusal(error.message)
    except BaseException as error:
        if isinstance(error, Exception):
            raise
        # A panic in Rust is none; llguidance may have met what it did not expect.
        return _Refusal("#: the grammar compiler failed on it; write it in another way")
