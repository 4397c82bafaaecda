"""How tokens are made, and on what."""

from __future__ import annotations

from pathlib import Path

from pydantic import BaseModel, Field

from llmserve.settings.kinds import Device, Devices, EngineName, Instructions, Seconds


class EngineSettings(BaseModel):
    """How tokens are made, and on what."""

    engine: EngineName = Field(
        "auto",
        description="`batching`, `threaded`, or `auto`: batching where the model supports it.",
    )
    device: Device = Field("auto", description="`auto`, `cpu`, `cuda` or `cuda:N`.")
    devices: Devices = Field(
        (), description="Devices that workers claim in turn, one each; empty: all use `device`."
    )
    require_gpu: bool = Field(
        False, description='`device = "auto"` never means the CPU: a model without a GPU is broken.'
    )
    max_running: int | None = Field(
        None,
        ge=1,
        le=1024,
        description="Requests that generate at once, per model and worker; default: 32 in a batch "
        "on a CPU, 256 on a GPU, 4 with the threaded engine, 256 with the encoding engine.",
    )
    max_tokens_per_step: int | None = Field(
        None,
        ge=16,
        le=2**20,
        description="Tokens in one step: prompts and answers of the batching engine, inputs of the "
        "encoding engine; default: 512 and 1024 on a CPU, on a GPU 4096 and 16384.",
    )
    kv_cache_bytes: int | None = Field(
        None,
        ge=2**16,
        description="Size of the paged KV cache without recurrent states, per model and worker; "
        "default: on a GPU what steps, graphs and other models leave, on a CPU 2,048 tokens for "
        "each of `max_running`.",
    )
    prefix_caching: bool = Field(
        True,
        description="Keep the KV cache of prompts for later ones that begin with the same text.",
    )
    max_adapters: int = Field(
        8,
        ge=1,
        le=1024,
        description="Adapters of a model that are loaded at once, per worker; the least recently "
        "used one makes room.",
    )
    max_adapter_rank: int = Field(64, ge=1, le=1024, description="Largest rank of an adapter.")
    torch_threads: int | None = Field(
        None,
        ge=1,
        le=1024,
        description="CPU threads of a step; default: the processors that affinity and quotas "
        "leave ÷ workers, or with the threaded engine ÷ `max_running`, per request.",
    )
    torch_compile: bool = Field(
        False, description="On a GPU: compile the model (minutes at first start), then capture it."
    )
    cpu_instructions: Instructions = Field(
        "auto",
        description="What the CPU's kernels are compiled for: `avx512-bf16` (with AMX where there "
        "is any), `avx512`, `avx2`, `neon-bf16`, `neon`, or `auto`: the best of the processor's.",
    )
    cache_dir: Path | None = Field(
        None,
        description="Folder of compiled kernels; default: `.cache/llmserve` in the home directory.",
    )
    hang_timeout_seconds: Seconds = Field(
        120.0,
        gt=0,
        description="An engine counts as hung when a running request gets no token for so long, "
        "or a prompt takes so long to tokenize.",
    )
