"""The key for the upstreams, from a file or the environment."""

from __future__ import annotations

import os

from llmserve.domain import RemoteSpec
from llmserve.errors import ModelBroken


class UpstreamKey:
    """Read when the model is loaded, and from a file again and again: keys are changed."""

    def __init__(self, spec: RemoteSpec) -> None:
        self._spec = spec
        self.value: str | None = None

    def read(self) -> None:
        """Blocks on the file.

        Raises:
            ModelBroken: there is none where the manifest says; names the place, never the key.
        """
        spec = self._spec
        if spec.key_env is not None:
            self.value = os.environ.get(spec.key_env, "").strip()
            place = f"the environment variable {spec.key_env}"
        elif spec.key_file is not None:
            place = f"the file {spec.key_file}"
            try:
                self.value = spec.key_file.read_text(encoding="utf-8").strip()
            except (OSError, UnicodeDecodeError) as error:
                raise ModelBroken(f"the upstreams' key cannot be read from {place}") from error
        else:
            return
        if not self.value or not self.value.isascii() or not self.value.isprintable():
            raise ModelBroken(f"there is no key for the upstreams in {place}")
