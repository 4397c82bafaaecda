"""The port, the workers behind it, and how they come and go."""

from __future__ import annotations

from pathlib import Path

from pydantic import BaseModel, Field

from llmserve.settings.kinds import Host, Seconds, Words


class ServerSettings(BaseModel):
    """The port, the workers behind it, and how they come and go."""

    host: Host = Field(
        "127.0.0.1",
        description="Address to listen on; `0.0.0.0` for everyone, `::` for IPv6 as well.",
    )
    port: int = Field(8000, ge=0, le=65535, description="Port to listen on; 0 takes a free one.")
    grpc_port: int | None = Field(
        None, ge=0, le=65535, description="Port for gRPC beside HTTP (extra `grpc`); not set: off."
    )
    grpc_certfile: Path | None = Field(
        None, description="Certificate (PEM, with its chain) for gRPC over TLS; not set: plain."
    )
    grpc_keyfile: Path | None = Field(None, description="Private key of `grpc_certfile`.")
    grpc_client_ca_file: Path | None = Field(
        None,
        description="gRPC clients must have a certificate of one of these authorities (mTLS).",
    )
    grpc_max_streams: int = Field(
        128, ge=1, description="Calls at a time of one gRPC connection; more wait in the client."
    )
    grpc_connection_seconds: Seconds = Field(
        600.0,
        gt=0,
        description="A gRPC connection of this age is asked to open another, so that clients come "
        "to all workers; its calls go on.",
    )
    root_path: str = Field("", description="Path prefix that a proxy in front removes.")
    cors_origins: Words = Field((), description="Browser origins that may call; `*` is any.")
    gzip_min_bytes: int = Field(
        1024, ge=0, description="JSON bodies of this size or more are compressed."
    )
    keepalive_seconds: Seconds = Field(
        15.0, gt=0, description="A stream that is silent for so long gets an SSE comment."
    )
    stream_resume_seconds: Seconds = Field(
        0.0,
        ge=0,
        description="How long `GET /stream` goes on when its connection is cut, so that the client "
        "can read on; 0: it is cancelled at once.",
    )
    stream_resume_bytes: int = Field(
        16 * 2**20,
        ge=64 * 2**10,
        description="What a worker keeps of such streams, 64 KiB each; later ones cannot be "
        "resumed.",
    )
    drain_timeout_seconds: Seconds = Field(
        30.0, ge=0, description="On SIGTERM: time for running streams to finish."
    )
    workers: int = Field(
        1, ge=1, le=256, description="Uvicorn processes; each loads every model for itself."
    )
    worker_start_seconds: Seconds = Field(
        120.0, gt=0, description="A new worker without a heartbeat for so long is replaced."
    )
    worker_timeout_seconds: Seconds = Field(
        30.0, gt=0, description="A worker whose heartbeat stops for so long is replaced."
    )
    memory_preflight: bool = Field(
        True, description="Refuse to start when workers × models do not fit in memory."
    )
    max_connections: int = Field(
        2048, ge=1, description="Open connections per worker; more wait in the kernel's queue."
    )
    tokenizer_info: bool = Field(
        False,
        description="GET /tokenizer_info tells special tokens and the chat template, as clients "
        "that render prompts themselves want it.",
    )
    playground: bool = Field(
        True, description="Serve the web pages: the chat at `/`, for browsers, and `/status`."
    )
    reload: bool = Field(
        False, description="Restart when the code changes: for development, with one worker."
    )
    address_file: Path | None = Field(
        None,
        description="File that holds the server's URL while it listens, for `llmserve health` and "
        "scripts: needed when a flag or `port = 0` decides the port.",
    )
    run_dir: Path | None = Field(
        None,
        description="Folder through which the workers of this box communicate; not set: a fresh "
        "one in the state folder.",
    )
