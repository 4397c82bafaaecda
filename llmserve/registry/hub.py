"""Downloads models and adapters from the hub into `models/`, completely or not at all."""

from __future__ import annotations

import contextlib
import fcntl
import glob
import io
import json
import os
import re
import shutil
import threading
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

from httpx2 import HTTPError
from huggingface_hub import HfApi, hf_hub_download, snapshot_download
from huggingface_hub.errors import (
    GatedRepoError,
    HfHubHTTPError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from huggingface_hub.hf_api import RepoFile
from tqdm.auto import tqdm

from llmserve.domain import LoadProgress
from llmserve.engines.adapters.stored import FILES
from llmserve.engines.weights.checkpoint import NoCheckpoint
from llmserve.engines.weights.modules import unneeded_weights
from llmserve.errors import ConfigurationError
from llmserve.registry.adapter_table import ADAPTERS, HUB_ID
from llmserve.registry.hub_source import folder_name
from llmserve.registry.manifest import MANIFEST

RECEIPT: Final = ".hub.json"
"""The file that says which repository and revision a folder was downloaded from."""

HUB_ADAPTERS: Final = ".adapters"
"""The folder below `models_dir` of the adapters that were downloaded."""

Wanted = Callable[[Collection[str], Callable[[str], str]], frozenset[str]]
"""Which of a repository's files are downloaded; may read some."""

BYTES_BAR: Final = "huggingface_hub.snapshot_download"
"""The bar that counts bytes on disk; another one counts bytes on the network."""


def pull(
    hub_id: str,
    models_dir: Path,
    *,
    revision: str | None = None,
    gguf_file: str | None = None,
    endpoint: str,
    token: str | None = None,
    progress: Callable[[LoadProgress], None] = lambda progress: None,
) -> Path:
    """The folder of a hub repository under `models_dir`, downloaded if it is not there; of its
    weights only `gguf_file`, if that is named.

    Files are downloaded to a hidden folder beside it, which is renamed when all are complete; an
    interrupted download is resumed. Pulls into one `models_dir` wait for each other, also between
    processes. Blocks; `progress` is called from several threads.

    Raises:
        ConfigurationError: the hub refuses, does not answer or has no such repository; or the
            folder exists with other content.
    """
    source = _Source(hub_id, revision, endpoint, token, gguf_file)
    target = models_dir / folder_name(hub_id, gguf_file)

    def wanted(names: Collection[str], read: Callable[[str], str]) -> frozenset[str]:
        return _of_model(names, read, gguf_file)

    return _pulled(source, target, wanted, progress)


def pull_adapter(
    hub_id: str,
    models_dir: Path,
    *,
    revision: str | None = None,
    endpoint: str,
    token: str | None = None,
) -> Path:
    """The same for the repository of an adapter, in a folder of its own below a hidden one.

    Raises:
        ConfigurationError: as `pull`.
    """
    name = hub_id.replace("/", "--") + (f"--{quote(revision, safe='')}" if revision else "")
    target = models_dir / HUB_ADAPTERS / name
    source = _Source(hub_id, revision, endpoint, token)
    return _pulled(source, target, _of_adapter, lambda progress: None)


@dataclass(frozen=True, slots=True)
class _Source:
    hub_id: str
    revision: str | None
    endpoint: str
    token: str | None
    gguf_file: str | None = None

    @property
    def receipt(self) -> dict[str, str | None]:
        """What a folder says that it was downloaded from."""
        file = {} if self.gguf_file is None else {"gguf_file": self.gguf_file}
        return {"hub_id": self.hub_id, "revision": self.revision, **file}


def _pulled(
    source: _Source, target: Path, wanted: Wanted, progress: Callable[[LoadProgress], None]
) -> Path:
    hub_id, revision, folder = source.hub_id, source.revision, target.parent
    if not re.fullmatch(HUB_ID, hub_id):
        raise ConfigurationError(f"{hub_id!r} is not a hub id; write it as org/name")
    receipt = source.receipt
    if _is_pulled(target, receipt):
        return target
    progress(LoadProgress("download", 0.0))
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with _alone_in(folder):
            if _is_pulled(target, receipt):  # by another worker, while this one waited
                return target
            partial = folder / f".{target.name}.part"
            _download(source, wanted, partial, progress)
            (partial / RECEIPT).write_text(json.dumps(receipt))
            partial.rename(target)
    except (GatedRepoError, RepositoryNotFoundError, RevisionNotFoundError) as error:
        raise ConfigurationError(_refusal(hub_id, revision, error)) from error
    except (HTTPError, ValueError, OSError) as error:
        raise ConfigurationError(_failure(hub_id, source.endpoint, folder, error)) from error
    progress(LoadProgress("download", 1.0))
    return target


def _download(
    source: _Source, choose: Wanted, partial: Path, progress: Callable[[LoadProgress], None]
) -> None:
    hub_id, endpoint = source.hub_id, source.endpoint
    # `False` keeps huggingface_hub from sending a token that it finds on this machine.
    credential: str | bool = source.token or False
    api = HfApi(endpoint=endpoint, token=credential)
    commit = api.model_info(hub_id, revision=source.revision).sha
    tree = api.list_repo_tree(hub_id, recursive=True, revision=commit)
    sizes = {entry.path: entry.size for entry in tree if isinstance(entry, RepoFile)}
    place: dict[str, Any] = {
        "revision": commit,
        "local_dir": partial,
        "endpoint": endpoint,
        "token": credential,
    }
    nothing = _reporting(lambda progress: None, 0)

    def read(name: str) -> str:
        file = hf_hub_download(hub_id, name, tqdm_class=nothing, **place)
        return Path(file).read_text(encoding="utf-8")

    try:
        names = choose(sizes, read)
    except NoCheckpoint as reason:
        raise ConfigurationError(f"{hub_id} cannot be served: {reason}") from reason
    wanted = {name: size for name, size in sizes.items() if name in names}
    ignored = sizes.keys() - names
    snapshot_download(
        hub_id,
        ignore_patterns=[glob.escape(name) for name in ignored],
        tqdm_class=_reporting(progress, sum(wanted.values())),
        **place,
    )
    _keep_only(wanted, partial)


def _of_model(
    names: Collection[str], read: Callable[[str], str], gguf_file: str | None
) -> frozenset[str]:
    # A manifest is the operator's (it may allow remote code), and so are adapters; a repository's
    # own are ignored.
    ignored = {n for n in names if n.lower() in (MANIFEST, RECEIPT) or n.startswith(ADAPTERS + "/")}
    ignored |= unneeded_weights(names, read, gguf_file)
    return frozenset(names) - ignored


def _of_adapter(names: Collection[str], read: Callable[[str], str]) -> frozenset[str]:
    if not set(FILES).issubset(names):
        raise NoCheckpoint(f"an adapter has {' and '.join(FILES)}")
    return frozenset(FILES)


def _keep_only(wanted: Mapping[str, int], partial: Path) -> None:
    """Delete files of an earlier, other download, and refuse incomplete files.

    snapshot_download returns an unfinished folder if the hub stops answering.
    """
    shutil.rmtree(partial / ".cache", ignore_errors=True)
    for file in [path for path in partial.rglob("*") if path.is_file()]:
        if file.relative_to(partial).as_posix() not in wanted:
            file.unlink()
    for name, size in wanted.items():
        file = partial / name
        if not file.is_file() or file.stat().st_size != size:
            raise ValueError(f"{name} is incomplete")


@contextlib.contextmanager
def _alone_in(models_dir: Path) -> Iterator[None]:
    """Wait until no other process or thread downloads into this folder. The lock ends with its
    process."""
    descriptor = os.open(models_dir, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _is_pulled(target: Path, receipt: Mapping[str, str | None]) -> bool:
    if not target.exists() or (target.is_dir() and not any(target.iterdir())):
        return False
    if _receipt(target) == receipt:
        return True
    at = f" at {receipt['revision']}" if receipt["revision"] else ""
    raise ConfigurationError(
        f"{target} exists and is not a download of {receipt['hub_id']}{at}; "
        "move it away or serve it by its name"
    )


def _receipt(folder: Path) -> Any:
    try:
        return json.loads((folder / RECEIPT).read_text())
    except (OSError, ValueError):
        return None


def _refusal(hub_id: str, revision: str | None, error: HfHubHTTPError) -> str:
    if isinstance(error, RevisionNotFoundError):
        return f"{hub_id} has no revision {revision!r}"
    if isinstance(error, GatedRepoError):
        return f"{hub_id} is gated: accept its terms on the hub and set LLMSERVE_HF_TOKEN"
    return f"the hub has no {hub_id}, or it is private: check the name, or set LLMSERVE_HF_TOKEN"


def _failure(hub_id: str, endpoint: str, models_dir: Path, error: Exception) -> str:
    is_of_disk = isinstance(error, OSError) and error.errno is not None
    if is_of_disk and not isinstance(error, (HTTPError, ConnectionError, TimeoutError)):
        return (
            f"{hub_id} could not be written to {models_dir}: {error}; free disk space or change "
            "permissions"
        )
    return (
        f"{hub_id} could not be downloaded from {endpoint}: {error}; "
        "what was downloaded is kept, try again"
    )


def _reporting(progress: Callable[[LoadProgress], None], num_bytes: int) -> type[tqdm]:
    """A progress bar that draws nothing and reports the fraction of bytes downloaded.

    The bar's own total grows with each file that is begun; `num_bytes` is that of all files.
    """
    lock = threading.Lock()
    furthest = 0.0

    class Reporting(tqdm):
        monitor_interval = 0  # without tqdm's monitor thread

        def __init__(self, *args: Any, **kwargs: Any) -> None:
            self._counts = kwargs.pop("name", None) == BYTES_BAR
            super().__init__(*args, **kwargs | {"file": io.StringIO(), "disable": False})

        def update(self, n: float | None = 1) -> Any:
            nonlocal furthest
            drawn = super().update(n)
            with lock:
                fraction = min(1.0, self.n / num_bytes) if self._counts and num_bytes else 0.0
                if fraction > furthest:
                    furthest = fraction
                    progress(LoadProgress("download", fraction))
            return drawn

    return Reporting
