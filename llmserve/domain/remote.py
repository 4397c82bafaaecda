"""A model that other servers serve: where they are, how they are asked, and how they are."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path


@dataclass(frozen=True, slots=True)
class RemoteSpec:
    """What a manifest says of a model that is served elsewhere.

    Attributes:
        urls: base URLs, without `/v1`.
        model: its name there.
        key_file: a file that holds the key for them; or `key_env`, a variable's name.
        connect_seconds: until a connection must be there.
        first_token_seconds: from there until something of the answer must have come.
        between_tokens_seconds: from one piece of the answer to the next.
        retry_share: of the requests, how many may be sent to a second upstream.
        max_running: requests at once, of one worker to all upstreams together.
        health_path: what is asked to learn whether an upstream is well; `None` for what its kind of
            server has.
        health_seconds: between two such questions.
        ca_file: authorities that sign the upstreams' certificates, in place of the machine's.
        uses_proxy: whether the proxy that the environment names stands between.
    """

    urls: tuple[str, ...]
    model: str
    key_file: Path | None = None
    key_env: str | None = None
    connect_seconds: float = 5.0
    first_token_seconds: float = 120.0
    between_tokens_seconds: float = 60.0
    retry_share: float = 0.1
    max_running: int = 256
    health_path: str | None = None
    health_seconds: float = 5.0
    ca_file: Path | None = None
    uses_proxy: bool = False


class UpstreamState(StrEnum):
    """Whether an upstream gets requests, and why not.

    `OPEN` is the circuit breaker's word: too much failed lately. `WITHOUT` is one that answers and
    does not serve the model.
    """

    UP = "up"
    DOWN = "down"
    OPEN = "open"
    DRAINING = "draining"
    WITHOUT = "without the model"


@dataclass(frozen=True, slots=True)
class UpstreamInfo:
    """One upstream at one moment.

    Attributes:
        server: which kind of server it is, as far as it tells.
        running: requests of this worker that it answers now.
        first_token_seconds: about how long its answers take to begin; `None` before the first.
        problem: why it gets no requests, for the operator.
    """

    url: str
    state: UpstreamState
    server: str
    running: int
    first_token_seconds: float | None = None
    problem: str | None = None
