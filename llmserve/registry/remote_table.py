"""`upstream` and `[remote]` in `model.toml`: a model that other servers serve."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Final, Literal

from pydantic import BaseModel, Field, model_validator

from llmserve.domain import RemoteSpec
from llmserve.errors import ConfigurationError
from llmserve.registry.output_table import STRICT
from llmserve.server_url import server_url

HERE_ONLY: Final = (
    "path", "hub_id", "revision", "dtype", "device", "engine", "trust_remote_code",
    "chat_template", "output", "encoding", "adapters", "gguf_file", "dequantize", "quantize",
)  # fmt: skip
"""Keys of a manifest that only a model which is loaded here can have."""
MOST_UPSTREAMS: Final = 1024

Seconds = Annotated[float, Field(gt=0, le=86_400)]
VariableName = Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")]


class RemoteTable(BaseModel):
    """`[remote]`: how the upstreams are asked."""

    model_config = STRICT

    model: Annotated[str, Field(min_length=1, max_length=256)] | None = None
    protocol: Literal["openai"] = "openai"
    key_file: str | None = None
    key_env: VariableName | None = None
    ca_file: str | None = None
    client_cert_file: str | None = None
    client_key_file: str | None = None
    proxy_from_environment: bool = False
    connect_seconds: Seconds = 5.0
    first_token_seconds: Seconds = 120.0
    between_tokens_seconds: Seconds = 60.0
    retries: Annotated[float, Field(ge=0, le=1)] = 0.1
    max_running: Annotated[int, Field(ge=1, le=65_536)] = 256
    health_path: Annotated[str, Field(pattern=r"^/[\x21-\x7e]*$")] | None = None
    health_seconds: Seconds = 5.0

    @model_validator(mode="after")
    def _one_key(self) -> RemoteTable:
        if self.key_file is not None and self.key_env is not None:
            raise ValueError("key_file and key_env exclude each other; keep one")
        if (self.client_cert_file is None) is not (self.client_key_file is None):
            raise ValueError("client_cert_file and client_key_file belong together; set both")
        return self

    def spec(self, urls: Sequence[str], name: str, folder: Path) -> RemoteSpec:
        """As the engine takes it; files are named as seen from the manifest's folder."""
        return RemoteSpec(
            urls=tuple(urls),
            model=self.model or name,
            key_file=_file(self.key_file, folder),
            key_env=self.key_env,
            connect_seconds=self.connect_seconds,
            first_token_seconds=self.first_token_seconds,
            between_tokens_seconds=self.between_tokens_seconds,
            retry_share=self.retries,
            max_running=self.max_running,
            health_path=self.health_path,
            health_seconds=self.health_seconds,
            ca_file=_file(self.ca_file, folder),
            client_cert_file=_file(self.client_cert_file, folder),
            client_key_file=_file(self.client_key_file, folder),
            uses_proxy=self.proxy_from_environment,
        )


def checked_upstreams(written: Any) -> Any:
    """The base URL of each, without `/v1`; one may be written without a list."""
    urls = [written] if isinstance(written, str) else written
    if not isinstance(urls, list) or not all(isinstance(url, str) for url in urls):
        return urls  # pydantic says what is wrong
    if not 1 <= len(urls) <= MOST_UPSTREAMS:
        raise ValueError(f"there may be 1 to {MOST_UPSTREAMS} upstreams")
    checked = [_checked(url) for url in urls]
    twice = [url for url in checked if checked.count(url) > 1]
    if twice:
        raise ValueError(f"{twice[0]} is there twice; keep it once")
    return checked


def is_grpc(url: str) -> bool:
    """Whether an upstream speaks gRPC."""
    return url.startswith(("grpc://", "grpcs://"))


def _checked(url: str) -> str:
    try:
        parts = server_url(url.replace("grpc", "http", 1) if is_grpc(url) else url)
    except ConfigurationError as error:
        raise ValueError(error.message) from None
    if is_grpc(url) and (parts.port is None or parts.path):
        raise ValueError(f"{url!r} is no gRPC server's URL; write it as grpc://HOST:PORT")
    if parts.username is not None or parts.password is not None:
        raise ValueError("an upstream's URL has a password in it; use key_file or key_env")
    checked = parts.geturl()
    return checked.replace("http", "grpc", 1) if is_grpc(url) else checked


def _file(name: str | None, folder: Path) -> Path | None:
    return None if name is None else (folder / name).resolve()
