"""What lives as long as the server does."""

from __future__ import annotations

from dataclasses import dataclass

from llmserve.admission.keys import KeyRing
from llmserve.admission.limits import Limiter
from llmserve.fleet.membership import Membership
from llmserve.jobs.jobs import Jobs
from llmserve.observability.ignored_fields import IgnoredFields
from llmserve.observability.metrics import Metrics
from llmserve.observability.tracing import Tracer
from llmserve.operations.operations import Operations
from llmserve.registry.loader import Loader
from llmserve.registry.registry import Registry
from llmserve.service import Service
from llmserve.service.kept_streams import KeptStreams
from llmserve.settings import Settings
from llmserve.storage.response_store import ResponseStore


@dataclass(frozen=True, slots=True)
class Container:
    """What routes and commands use.

    `membership` is this worker's place among the workers of the box, `None` where the process
    is alone. `responses` keeps responses, and `jobs` batches; `None` where that is off.
    """

    settings: Settings
    metrics: Metrics
    registry: Registry
    loader: Loader
    limiter: Limiter
    service: Service
    keys: KeyRing
    operations: Operations
    tracer: Tracer
    ignored_fields: IgnoredFields
    kept_streams: KeptStreams
    membership: Membership | None = None
    responses: ResponseStore | None = None
    jobs: Jobs | None = None
