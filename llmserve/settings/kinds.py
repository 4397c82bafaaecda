"""Types of the values of settings and manifests."""

from __future__ import annotations

import json
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, AllowInfNan, BeforeValidator, SecretStr

from llmserve.address import without_brackets


def _listed(value: Any) -> Any:
    """A list from the environment or a flag: JSON, or words separated by commas."""
    if not isinstance(value, str):
        return value
    if value.lstrip().startswith("["):
        return json.loads(value)
    return [part.strip() for part in value.split(",") if part.strip()]


def _listed_secrets(value: Any) -> Any:
    """Like `_listed`, but keeps empty parts, which are then refused: they must not mean no keys."""
    if isinstance(value, str) and not value.lstrip().startswith("["):
        return [part.strip() for part in value.split(",")]
    return _listed(value)


def _not_blank(secret: SecretStr) -> SecretStr:
    if not secret.get_secret_value().strip():
        raise ValueError("is blank")
    return secret


def _known_device(device: str) -> str:
    kind, _, index = device.partition(":")
    if device in {"auto", "cpu", "cuda"} or (kind == "cuda" and index.isdecimal()):
        return device
    raise ValueError("must be auto, cpu, cuda or cuda:N")


def _redis_url(url: SecretStr) -> SecretStr:
    if not url.get_secret_value().startswith(("redis://", "rediss://", "unix://")):
        raise ValueError("must begin with redis://, rediss:// or unix://")
    return url


Host = Annotated[str, AfterValidator(without_brackets)]
Device = Annotated[str, AfterValidator(_known_device)]
DType = Literal["auto", "float32", "bfloat16", "float16"]
Quantize = Literal["none", "int8", "int4", "fp8"]
EngineName = Literal["auto", "batching", "threaded"]
Instructions = Literal["auto", "avx512-bf16", "avx512", "avx2", "neon-bf16", "neon"]
ModelEngineName = Literal["auto", "batching", "threaded", "encoding"]
Words = Annotated[tuple[str, ...], BeforeValidator(_listed)]
Devices = Annotated[tuple[Device, ...], BeforeValidator(_listed)]
Secret = Annotated[SecretStr, AfterValidator(_not_blank)]
RedisUrl = Annotated[SecretStr, AfterValidator(_redis_url)]
"""It may have a password in it."""
Secrets = Annotated[tuple[Secret, ...], BeforeValidator(_listed_secrets)]
Seconds = Annotated[float, AllowInfNan(False)]
