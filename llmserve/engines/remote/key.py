"""The key for the upstreams, from a file or the environment."""

from __future__ import annotations

import asyncio
import os

from llmserve.domain import RemoteSpec
from llmserve.errors import ModelBroken
from llmserve.trouble import Trouble


class UpstreamKey:
    """Read when the model is loaded, and then whenever the upstreams are looked at: keys are
    changed."""

    def __init__(self, spec: RemoteSpec) -> None:
        self._spec = spec
        self._trouble = Trouble("the upstreams' key cannot be read", "the one before is used")
        self.value: str | None = None

    def read(self) -> None:
        """Blocks on the file.

        Raises:
            ModelBroken: there is none where the manifest says; names the setting, never the key.
        """
        spec = self._spec
        if spec.key_env is not None:
            self.value = _checked(os.environ.get(spec.key_env, ""), "key_env")
        elif spec.key_file is not None:
            try:
                content = spec.key_file.read_text(encoding="utf-8")
            except (OSError, UnicodeDecodeError) as error:
                raise ModelBroken("the file that key_file names cannot be read") from error
            self.value = _checked(content, "key_file")

    async def renew(self) -> None:
        """Read it again, if it is in a file; where that fails, the last one stays."""
        if self._spec.key_file is None:
            return
        try:
            await asyncio.to_thread(self.read)
        except ModelBroken as error:
            self._trouble.begins(error)
        else:
            self._trouble.is_over()


def _checked(content: str, place: str) -> str:
    key = content.strip()
    if not key or not key.isascii() or not key.isprintable():
        raise ModelBroken(f"there is no key for the upstreams where {place} says")
    return key
