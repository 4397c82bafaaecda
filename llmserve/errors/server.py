"""Errors whose caller may try again."""

from __future__ import annotations

from llmserve.errors.base import LLMServeError


class ServerError(LLMServeError):
    """The request is valid; the server could not serve it."""


class GenerationFailed(ServerError):
    """The engine raised an exception while generating."""

    code = "generation_failed"


class WorkerGone(ServerError):
    """Another worker of the box went away before it answered."""

    status = 502
    code = "worker_gone"


class WorkerInvalid(ServerError):
    """Another worker of the box answered what no worker answers."""

    status = 502
    code = "worker_invalid"


class UpstreamFailed(ServerError):
    """The server that serves this model did not answer as it should."""

    status = 502
    code = "upstream_failed"


class UpstreamTimeout(ServerError):
    """The server that serves this model was silent for too long."""

    status = 504
    code = "upstream_timeout"


class NotReady(ServerError):
    """The model cannot take requests at this moment."""

    status = 503
    type = "service_unavailable_error"
    code = "not_ready"


class ModelLoading(NotReady):
    """The model is still loading or warming up."""

    code = "model_loading"


class ModelBroken(NotReady):
    """The model could not be loaded; the message says why."""

    code = "model_broken"


class DeviceLost(ModelBroken):
    """The device stopped answering while the model was loaded: only a new process can use it."""


class ModelUnloaded(NotReady):
    """An operator unloaded the model, or it is being unloaded."""

    code = "model_unloaded"


class Displaced(NotReady):
    """Background work that was ended before its time, as others need its place: it is to be run
    again."""

    code = "displaced"


class ShuttingDown(NotReady):
    """The server is draining and takes no new work."""

    code = "shutting_down"


class OutOfMemory(ServerError):
    """The device ran out of memory in this request; others go on."""

    status = 503
    code = "out_of_memory"


class StoreFailed(ServerError):
    """Stored responses or batches cannot be read or written."""

    status = 503
    code = "store_failed"


class WaitTimeout(ServerError):
    """The request waited for a slot longer than the server allows, or its prompt was not tokenized
    before its deadline."""

    status = 503
    type = "service_unavailable_error"
    code = "wait_timeout"
