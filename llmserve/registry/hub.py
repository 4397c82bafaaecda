"""Downloads from the hub into `models/`: whole or not at all."""

from __future__ import annotations

import io
import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from httpx2 import HTTPError
from huggingface_hub import HfApi, snapshot_download
from huggingface_hub.errors import (
    GatedRepoError,
    HfHubHTTPError,
    HFValidationError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from tqdm.auto import tqdm

from llmserve.domain import LoadProgress
from llmserve.errors import ConfigurationError

HUB_ID: Final = r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?"
"""`org/name`, or `name` alone; neither part can be a way out of a folder."""

RECEIPT: Final = ".hub.json"
"""Says which repository and revision a folder was downloaded from."""

OTHER_WEIGHTS: Final = ["*.bin", "*.pth", "*.pt", "*.onnx", "*.gguf", "*.msgpack", "*.h5", "*.ot"]
"""What is left out when the repository has safetensors."""


def pull(
    hub_id: str,
    models_dir: Path,
    *,
    revision: str | None = None,
    endpoint: str,
    token: str | None = None,
    progress: Callable[[LoadProgress], None] = lambda progress: None,
) -> Path:
    """The folder of a hub repository under `models_dir`, downloaded unless it is there.

    Files arrive in a hidden folder beside it, which is renamed when all are complete; a
    download that was interrupted goes on where it stopped. Blocks; `progress` is called from
    several threads.

    Raises:
        ConfigurationError: the hub refuses, does not answer or has no such repository; or the
            folder is taken by something else.
    """
    if not re.fullmatch(HUB_ID, hub_id):
        raise ConfigurationError(f"{hub_id!r} is no hub id; write it as org/name")
    target = models_dir / hub_id.rpartition("/")[2]
    receipt = {"hub_id": hub_id, "revision": revision}
    if target.exists():
        if _receipt(target) == receipt:
            return target
        raise ConfigurationError(
            f"{target} exists and is not a download of {hub_id}"
            f"{f' at {revision}' if revision else ''}; move it away or serve it by its name"
        )
    partial = models_dir / f".{target.name}.part"
    progress(LoadProgress("download", 0.0))
    try:
        _download(hub_id, revision, endpoint, token, partial, progress)
    except (GatedRepoError, RepositoryNotFoundError, RevisionNotFoundError) as error:
        raise ConfigurationError(_refusal(hub_id, revision, error)) from error
    except (HTTPError, HFValidationError, OSError) as error:
        raise ConfigurationError(
            f"{hub_id} could not be downloaded from {endpoint}: {error}; "
            "what has arrived is kept, try again"
        ) from error
    shutil.rmtree(partial / ".cache", ignore_errors=True)
    (partial / RECEIPT).write_text(json.dumps(receipt))
    return partial.rename(target)


def _download(
    hub_id: str,
    revision: str | None,
    endpoint: str,
    token: str | None,
    partial: Path,
    progress: Callable[[LoadProgress], None],
) -> None:
    # `False` keeps huggingface_hub from sending a token that it finds lying around.
    credential: str | bool = token or False
    api = HfApi(endpoint=endpoint, token=credential)
    files = api.list_repo_files(hub_id, revision=revision)
    has_safetensors = any(file.endswith(".safetensors") for file in files)
    snapshot_download(
        hub_id,
        revision=revision,
        local_dir=partial,
        endpoint=endpoint,
        token=credential,
        ignore_patterns=OTHER_WEIGHTS if has_safetensors else None,
        tqdm_class=_reporting(progress),
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


def _reporting(progress: Callable[[LoadProgress], None]) -> type[tqdm]:
    """A progress bar that draws nothing and reports the fraction of bytes that arrived."""

    class Reporting(tqdm):
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            kwargs.pop("name", None)
            super().__init__(*args, **kwargs | {"file": io.StringIO(), "disable": False})

        def update(self, n: float | None = 1) -> Any:
            drawn = super().update(n)
            if self.unit == "B" and self.total:
                progress(LoadProgress("download", min(1.0, self.n / self.total)))
            return drawn

    return Reporting
