"""Which replica gets a request: the one that has most of its prompt cached, unless it is busy."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ray.serve.request_router import (
    FIFOMixin,
    PendingRequest,
    ReplicaID,
    ReplicaResult,
    RequestRouter,
    RunningReplica,
)

from llmserve.engines.remote.balancer import Balancer
from llmserve.engines.remote.prefix_memory import Digest, PrefixMemory


@dataclass(frozen=True, slots=True)
class _Candidate:
    """A replica, as the balancer weighs it."""

    running: int
    prefixes: PrefixMemory


class PrefixRouter(FIFOMixin, RequestRouter):
    """Lives in each process that calls a deployment, on the loop of its handle: an ingress replica
    remembers what itself has sent where.

    A call's keyword `digest` is the digest of its prompt, `replica` the name of the one replica
    that it is meant for.
    """

    def initialize_state(self, **kwargs: Any) -> None:
        """Called by Ray once."""
        self._balancer = Balancer()
        self._memories: dict[ReplicaID, PrefixMemory] = {}

    async def choose_replicas(
        self,
        candidate_replicas: list[RunningReplica],
        pending_request: PendingRequest | None = None,
    ) -> list[list[RunningReplica]]:
        """The best one, then the others, for when it is at Ray's limit."""
        if pending_request is None or not candidate_replicas:
            return [candidate_replicas]
        pending_request.routing_context.should_backoff = True
        wanted = pending_request.kwargs.get("replica")
        meant = [r for r in candidate_replicas if r.replica_id.unique_id == wanted]
        if meant:
            return [meant]
        best = self._balancer.best(
            [self._candidate(replica) for replica in candidate_replicas], _digest(pending_request)
        )
        others = [r for number, r in enumerate(candidate_replicas) if number != best]
        return [[candidate_replicas[best]], others]

    def on_request_routed(
        self, pending_request: PendingRequest, replica_id: ReplicaID, result: ReplicaResult
    ) -> None:
        """A replica has taken it, and caches its prompt."""
        digest = _digest(pending_request)
        if digest:
            self._memory(replica_id).add(digest)

    def update_replicas(self, replicas: list[RunningReplica]) -> None:
        """Ray tells which replicas there are; what others had is forgotten."""
        super().update_replicas(replicas)
        known = {replica.replica_id for replica in replicas}
        for gone in self._memories.keys() - known:
            del self._memories[gone]

    def _candidate(self, replica: RunningReplica) -> _Candidate:
        running = self.replica_queue_len_cache.get(replica.replica_id) or 0
        return _Candidate(running, self._memory(replica.replica_id))

    def _memory(self, replica_id: ReplicaID) -> PrefixMemory:
        return self._memories.setdefault(replica_id, PrefixMemory())


def _digest(pending_request: PendingRequest) -> Digest:
    digest: Digest = pending_request.kwargs.get("digest", ())
    return digest
