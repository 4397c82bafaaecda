"""Which replica a request goes to."""

from __future__ import annotations

from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import pytest
from bounded import run
from needs import needs_package

needs_package("ray")

from ray.serve.request_router import RequestRouter  # noqa: E402

from llmserve.engines.remote.prefix_memory import digest_of  # noqa: E402
from llmserve.workers.ray.router import PrefixRouter  # noqa: E402

LONG = digest_of("Tell me a story about a fox. " * 40)


@dataclass(frozen=True)
class Id:
    unique_id: str


@dataclass(frozen=True)
class Replica:
    replica_id: Id


ONE, TWO = Replica(Id("one")), Replica(Id("two"))


def request(**keywords: Any) -> Any:
    return SimpleNamespace(kwargs=keywords, routing_context=SimpleNamespace(should_backoff=False))


def router_with(**running: int) -> PrefixRouter:
    """A router that knows how much each replica does; Ray's part of it is left out."""
    router = PrefixRouter.__new__(PrefixRouter)
    router._replica_queue_len_cache = SimpleNamespace(
        get=lambda replica_id: running.get(replica_id.unique_id)
    )
    router.initialize_state()
    return router


def ranked(router: PrefixRouter, pending: Any) -> list[list[Replica]]:
    found: list[list[Replica]] = []

    async def test() -> None:
        found.extend(await router.choose_replicas([ONE, TWO], pending))

    run(test)
    return found


def test_nobody_is_chosen_where_nobody_is() -> None:
    async def test() -> None:
        assert await router_with().choose_replicas([], request()) == [[]]

    run(test)


def test_the_idle_one_gets_it_and_the_other_if_that_is_full() -> None:
    pending = request()
    assert ranked(router_with(one=9, two=1), pending) == [[TWO], [ONE]]
    assert pending.routing_context.should_backoff


def test_a_known_beginning_outweighs_some_load_but_not_much() -> None:
    for busy, best in ((2, ONE), (40, TWO)):
        router = router_with(one=busy, two=1)
        router.on_request_routed(request(digest=LONG), ONE.replica_id, None)
        assert ranked(router, request(digest=LONG))[0] == [best]


def test_a_message_goes_to_the_replica_that_has_its_connection() -> None:
    router = router_with(one=1000)
    assert ranked(router, request(replica="one")) == [[ONE]]
    assert len(ranked(router, request(replica="gone"))) == 2


def test_a_replica_that_is_replaced_has_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(RequestRouter, "update_replicas", lambda self, replicas: None)
    router = router_with(one=2, two=1)
    router.on_request_routed(request(digest=LONG), ONE.replica_id, None)
    router.update_replicas([TWO])
    assert ranked(router, request(digest=LONG))[0] == [TWO]
