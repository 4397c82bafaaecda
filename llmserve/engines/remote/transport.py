"""How one upstream is spoken to, whatever the protocol: the seam for others beside HTTP."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, Hashable, Mapping
from dataclasses import dataclass, field
from typing import Any

from llmserve.domain import Delta, Finish, GenerationRequest, Usage
from llmserve.engines.remote.refusal import Refusal
from llmserve.engines.remote.server_kind import ServerKind


@dataclass(frozen=True, slots=True)
class Served:
    """What an upstream tells of itself and of the model.

    Attributes:
        has_model: whether it serves the model, as far as it tells.
        facts: of the model: `max_model_len`, `reasoning` and what else a list of models has.
    """

    kind: ServerKind
    has_model: bool
    facts: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Accepted:
    """The upstream took the request: its answer may begin."""


@dataclass(frozen=True, slots=True)
class Counted:
    """Tokens as the upstream counts them."""

    usage: Usage


Piece = Accepted | Delta | Counted | Finish
"""Of an answer: `Accepted`, then `Delta`*, `Counted`*, and a `Finish`, whose usage is what was
counted last."""


class Unreachable(Exception):
    """The request never reached the upstream."""

    def __init__(self, problem: str) -> None:
        super().__init__(problem)
        self.problem = problem


class Lost(Exception):
    """The connection ended before the answer did: the upstream goes on with nothing."""

    def __init__(self, problem: str) -> None:
        super().__init__(problem)
        self.problem = problem


class Refused(Exception):
    """The upstream answered that it will not answer."""

    def __init__(self, refusal: Refusal) -> None:
        super().__init__(refusal.error.message)
        self.refusal = refusal


class Unwell(Exception):
    """A health check says that requests should not go there."""

    def __init__(self, problem: str, *, is_draining: bool = False) -> None:
        super().__init__(problem)
        self.problem = problem
        self.is_draining = is_draining


class Transport(ABC):
    """One upstream's address and protocol. Owned by the event loop."""

    @property
    @abstractmethod
    def language(self) -> Hashable:
        """What `write` depends on besides the request: what was written for one transport serves
        all that speak the same."""

    @abstractmethod
    def write(self, request: GenerationRequest) -> Any:
        """The request as `answer` sends it.

        Raises:
            InvalidRequest: the upstream cannot be told one of its fields; names it.
        """

    @abstractmethod
    async def describe(self) -> Served:
        """Ask what it is and whether it has the model.

        Raises:
            Unwell: it does not answer that.
        """

    @abstractmethod
    async def check(self) -> None:
        """Ask whether requests should go there.

        Raises:
            Unwell: they should not.
        """

    @abstractmethod
    def answer(self, written: Any, headers: Mapping[str, str]) -> AsyncGenerator[Piece]:
        """Send a request and read its answer. Closing the generator closes the connection, by which
        the upstream knows that nobody waits any more.

        Raises:
            Unreachable, Lost, Refused: as they say.
            LLMServeError: what came is no answer.
        """

    @abstractmethod
    async def close(self) -> None:
        """Close what is open."""
