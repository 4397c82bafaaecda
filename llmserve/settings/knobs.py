"""Every knob, with its default and what it means. Knows nothing of where values come from."""

from __future__ import annotations

from pathlib import Path
from typing import Final, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, SecretStr, model_validator

from llmserve.settings.kinds import (
    Device,
    Devices,
    DType,
    EngineName,
    Host,
    Seconds,
    Secrets,
    Words,
)

ENV_PREFIX: Final = "LLMSERVE_"


class Settings(BaseModel):
    """What an operator can decide. Field descriptions are the settings table of the README."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, validate_default=True, hide_input_in_errors=True
    )

    host: Host = Field(
        "127.0.0.1",
        description="Address to listen on; `0.0.0.0` for everyone, `::` for IPv6 as well.",
    )
    port: int = Field(8000, ge=0, le=65535, description="Port to listen on; 0 takes a free one.")
    root_path: str = Field("", description="Path prefix that a proxy in front removes.")
    workers: int = Field(
        1, ge=1, le=256, description="Uvicorn processes; each loads every model for itself."
    )
    devices: Devices = Field(
        (), description="Devices that workers claim in turn, one each; none: all use `device`."
    )
    memory_preflight: bool = Field(
        True, description="Refuse to start when workers × models do not fit the memory there is."
    )
    worker_start_seconds: Seconds = Field(
        120.0, gt=0, description="A new worker without a heartbeat for so long is replaced."
    )
    worker_timeout_seconds: Seconds = Field(
        30.0, gt=0, description="A worker whose heartbeat stops for so long is replaced."
    )
    max_connections: int = Field(
        2048, ge=1, description="Open connections per worker; more wait in the kernel's queue."
    )
    reload: bool = Field(
        False, description="Restart when the code changes: for development, with one worker."
    )
    models: Words = Field(
        ("demo",),
        description="Models to serve: names under `models_dir`, paths, or hub ids. "
        "The first is the default.",
    )
    models_on_demand: Words = Field(
        (), description="Models that the first request for them loads; `*`: all of `models_dir`."
    )
    default_model: str | None = Field(
        None, description="The model of requests that name none; not set: the first."
    )
    pinned_models: Words = Field(
        (), description="Models that are neither evicted nor unloaded for being idle."
    )
    models_memory_bytes: int | None = Field(
        None,
        ge=1,
        description="Memory for loaded models, per worker; the least recently used one that is "
        "not pinned makes room. Not set: no bound.",
    )
    idle_unload_seconds: Seconds | None = Field(
        None, gt=0, description="A model that nobody used for so long is unloaded."
    )
    unload_timeout_seconds: Seconds = Field(
        30.0, ge=0, description="How long unloading waits for open streams before it ends them."
    )
    models_dir: Path = Field(Path("models"), description="One folder per model.")
    device: Device = Field("auto", description="`auto`, `cpu`, `cuda` or `cuda:N`.")
    require_gpu: bool = Field(
        False, description='`device = "auto"` never means the CPU: a model without a GPU is broken.'
    )
    dtype: DType = Field("auto", description="Of the weights; `auto` is what the checkpoint has.")
    engine: EngineName = Field(
        "auto",
        description="`batching`, `threaded`, or `auto`: batching where the model supports it.",
    )
    trust_remote_code: bool = Field(
        False, description="Run Python code that comes with a model. Only for models you trust."
    )
    parse_special_tokens: bool = Field(
        False,
        description="Special tokens in the messages of a conversation act as such, as in raw "
        "prompts; otherwise they are words like others.",
    )
    max_running: int | None = Field(
        None,
        ge=1,
        le=1024,
        description="Requests that generate at once, per model and worker; default: 32 in a batch "
        "on a CPU, 256 on a GPU, 4 with the threaded engine.",
    )
    max_tokens_per_step: int | None = Field(
        None,
        ge=16,
        le=2**20,
        description="Prompt and answer tokens in one step of the batching engine; default: 512 on "
        "a CPU, 4096 on a GPU.",
    )
    kv_cache_bytes: int | None = Field(
        None,
        ge=2**16,
        description="Of the paged KV cache, per model and worker; default: on a GPU what steps, "
        "graphs and other models leave, on a CPU 2,048 tokens for each of `max_running`.",
    )
    prefix_caching: bool = Field(
        True, description="Keep the KV cache of prompts, for others that begin alike."
    )
    cache_dir: Path | None = Field(
        None, description="For compiled kernels; default: `.cache/llmserve` in the home directory."
    )
    torch_compile: bool = Field(
        False, description="On a GPU: compile the model (minutes at first start), then capture it."
    )
    max_waiting: int = Field(
        256, ge=0, le=100_000, description="Requests that wait for a slot; more are told 429."
    )
    wait_timeout_seconds: Seconds = Field(
        60.0, gt=0, description="How long a request may wait for a slot."
    )
    request_timeout_seconds: Seconds = Field(
        600.0, gt=0, description="Default and upper bound of a request's own timeout."
    )
    drain_timeout_seconds: Seconds = Field(
        30.0, ge=0, description="On SIGTERM: time for running streams to finish."
    )
    keepalive_seconds: Seconds = Field(
        15.0, gt=0, description="A comment goes out on a stream that is silent for so long."
    )
    hang_timeout_seconds: Seconds = Field(
        120.0,
        gt=0,
        description="A running request without a token for so long is a hung engine; so is a "
        "prompt that is made into tokens for so long.",
    )
    torch_threads: int | None = Field(
        None,
        ge=1,
        le=1024,
        description="CPU threads of a step; default: the processors that affinity and quotas "
        "leave ÷ workers, or with the threaded engine ÷ `max_running`, per request.",
    )
    max_header_bytes: int = Field(
        32 * 2**10, ge=1024, description="Request line and headers together; more is 431."
    )
    header_timeout_seconds: Seconds = Field(
        15.0, gt=0, description="How long a client may take to send its headers."
    )
    body_timeout_seconds: Seconds = Field(
        30.0, gt=0, description="How long a client may take to send its body."
    )
    send_timeout_seconds: Seconds = Field(
        120.0, gt=0, description="A reader that takes nothing of a stream for so long is cut off."
    )
    idle_connection_seconds: int = Field(
        75, ge=1, description="A connection without a request for so long is closed."
    )
    max_json_depth: int = Field(
        64, ge=4, le=1000, description="Nesting of a JSON body or WebSocket frame."
    )
    max_body_bytes: int = Field(
        4 * 2**20, ge=1024, description="Largest request body and WebSocket frame."
    )
    strict_fields: bool = Field(
        False,
        description="Refuse fields that nobody knows. Not set: they are ignored, and told in "
        "`X-Ignored-Fields`, the log and the metrics.",
    )
    max_prompts_per_request: int = Field(
        64, ge=1, le=4096, description="Prompts × n of one HTTP request."
    )
    websocket_max_prompts: int = Field(
        16, ge=1, le=4096, description="Prompts at once on one WebSocket."
    )
    gzip_min_bytes: int = Field(1024, ge=0, description="JSON bodies from here on are compressed.")
    cors_origins: Words = Field((), description="Browser origins that may call; `*` is any.")
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
        "open", description="`key`: `/metrics` wants a key with the scope `metrics` or `admin`."
    )
    metrics_compat: Literal["none", "vllm"] = Field(
        "none", description="`vllm`: `/metrics` says everything in vLLM's names, too."
    )
    accounting_log: Path | None = Field(
        None, description="A JSON line per request: who used how many tokens of which model."
    )
    accounting_max_bytes: int = Field(
        100 * 2**20, ge=4096, description="The accounting log is rotated at this size."
    )
    accounting_keep: int = Field(
        10, ge=1, le=1000, description="Rotated accounting logs that are kept."
    )
    slow_request_seconds: Seconds | None = Field(
        60.0, gt=0, description="A request that takes longer gets a warning with its timings."
    )
    otlp_endpoint: str | None = Field(
        None,
        description="OpenTelemetry collector (OTLP over HTTP), as in `http://host:4318`; wants "
        "the extra `tracing`.",
    )
    hf_endpoint: str = Field("https://huggingface.co", description="Hub to download from.")
    hf_token: SecretStr | None = Field(None, description="Token for gated models of the hub.")
    log_format: Literal["human", "json"] = Field("human", description="Log lines for whom.")
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = Field(
        "INFO", description="The least important lines to log."
    )
    address_file: Path | None = Field(
        None,
        description="The server writes its URL there while it listens, for `llmserve health` and "
        "scripts: needed where a flag or `port = 0` decides on the port.",
    )
    run_dir: Path | None = Field(
        None,
        description="Where the workers of this box meet; not set: a fresh one in the state folder.",
    )

    @model_validator(mode="after")
    def _reload_is_for_one(self) -> Self:
        if self.reload and self.workers > 1:
            raise ValueError("reload is for development with one worker; set workers to 1")
        return self

    @model_validator(mode="after")
    def _address_is_known(self) -> Self:
        if self.reload and self.port == 0 and self.address_file is not None:
            raise ValueError(
                "with reload nobody can tell which free port is taken; set port, or leave "
                "address_file out"
            )
        return self

    @model_validator(mode="after")
    def _something_to_serve(self) -> Self:
        if not self.models:
            raise ValueError("models is empty; name at least one")
        return self
