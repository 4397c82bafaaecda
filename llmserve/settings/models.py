"""Which models there are, and which of them stay loaded."""

from __future__ import annotations

from pathlib import Path

from pydantic import BaseModel, Field, SecretStr

from llmserve.settings.kinds import DType, Quantize, Seconds, Words


class ModelsSettings(BaseModel):
    """Which models there are, and which of them stay loaded."""

    models: Words = Field(
        ("demo", "demo-embedding"),
        description="Models to serve: names under `models_dir`, paths, or hub ids. "
        "The first is the default. May be empty (`[]`) beside `models_on_demand`. With `:adapter` "
        "after it, that adapter is loaded at start, too.",
    )
    models_on_demand: Words = Field(
        (), description="Models that the first request for them loads; `*`: all of `models_dir`."
    )
    default_model: str | None = Field(
        None, description="The model of requests that name none; not set: the first."
    )
    any_model_name: bool = Field(
        False,
        description="Requests for a model that is not served get the default one, and the answer "
        "says so; for clients that insist on a name of their own.",
    )
    pinned_models: Words = Field(
        (),
        description="Models and adapters that are neither evicted nor unloaded for being idle; "
        "`base:*`: all adapters of a model.",
    )
    models_dir: Path = Field(Path("models"), description="One folder per model.")
    adapter_dirs: Words = Field(
        (),
        description="Further folders from which operators may load adapters by their path while "
        "the server runs.",
    )
    models_memory_bytes: int | None = Field(
        None,
        ge=1,
        description="Memory for loaded models, per worker; the least recently used one that is "
        "not pinned makes room. Not set: no bound.",
    )
    idle_unload_seconds: Seconds | None = Field(
        None, gt=0, description="A model that is not used for so long is unloaded."
    )
    unload_timeout_seconds: Seconds = Field(
        30.0, ge=0, description="How long unloading waits for open streams before it ends them."
    )
    dtype: DType = Field("auto", description="Type of the weights; `auto` is the checkpoint's own.")
    quantize: Quantize = Field(
        "none",
        description="Weights of models that generate are packed when they are loaded: `int8`, "
        "`int4` or `fp8`; not those that are packed already. On a CPU `int8` alone.",
    )
    dequantize: bool = Field(
        False,
        description="Packed weights are expanded into `dtype` when they are loaded, for lack of "
        "kernels that compute with them as they are.",
    )
    trust_remote_code: bool = Field(
        False, description="Run Python code that comes with a model. Only for models you trust."
    )
    parse_special_tokens: bool = Field(
        False,
        description="Special tokens that are written in messages take effect, as they do in raw "
        "prompts; otherwise they are plain text.",
    )
    hf_endpoint: str = Field("https://huggingface.co", description="Hub to download from.")
    hf_token: SecretStr | None = Field(None, description="Token for gated models of the hub.")
