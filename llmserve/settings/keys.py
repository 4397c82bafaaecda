"""Who may use what."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import BaseModel, Field

from llmserve.settings.kinds import Secrets


class KeysSettings(BaseModel):
    """Who may use what."""

    api_keys: Secrets = Field(
        (), description="When set, requests need `Authorization: Bearer KEY` with one of them."
    )
    keys_file: Path | None = Field(
        None, description="Keys with limits, made by `llmserve keys`; read again when it changes."
    )
    admin_keys: Secrets = Field(
        (), description="Keys of `/admin`. Without one it answers on loopback only."
    )
    metrics_access: Literal["open", "key"] = Field(
        "open", description="`key`: `/metrics` needs a key with the scope `metrics` or `admin`."
    )
