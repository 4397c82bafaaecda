"""This worker among the workers of the box."""

from __future__ import annotations

import contextlib

from llmserve.errors import ConfigurationError
from llmserve.fleet.membership import Membership
from llmserve.fleet.run_directory import RunDirectory
from llmserve.fleet.upkeep import Upkeep
from llmserve.observability.metrics import Metrics
from llmserve.operations.desired import DesiredModels
from llmserve.settings import Settings


def hold_run_directory(settings: Settings) -> RunDirectory | None:
    """Where this process meets the others, `None` where it is alone. If it cannot be held now,
    the log says so once the server runs, and it is tried again."""
    if settings.run_dir is None:
        return None
    directory = RunDirectory(settings.run_dir)
    with contextlib.suppress(OSError, ConfigurationError):
        directory.keep()
    return directory


def build_upkeep(
    directory: RunDirectory | None,
    metrics: Metrics,
    desired: DesiredModels,
    stack: contextlib.AsyncExitStack,
) -> Upkeep | None:
    """What restores this process's part of the run directory."""
    if directory is None:
        return None
    upkeep = Upkeep(directory, metrics.restore, desired.restore)
    upkeep.look()
    stack.callback(upkeep.close)
    return upkeep


def join(
    settings: Settings,
    directory: RunDirectory | None,
    board: int | None,
    stack: contextlib.AsyncExitStack,
) -> Membership | None:
    """Take a row of the board and a number."""
    if directory is None:
        return None
    membership = Membership(directory.held_path, settings.workers, board)
    stack.callback(membership.leave)
    return membership


def device_of(settings: Settings, membership: Membership | None) -> str:
    """The device of this worker's slot; workers beyond the last device begin anew."""
    if not settings.devices:
        return settings.device
    number = membership.number if membership is not None else 0
    return settings.devices[number % len(settings.devices)]


def workers_on(device: str, settings: Settings) -> int:
    """How many workers share this device's memory."""
    if not settings.devices:
        return settings.workers
    counted = (settings.devices[n % len(settings.devices)] for n in range(settings.workers))
    return max(1, sum(1 for other in counted if other == device))
