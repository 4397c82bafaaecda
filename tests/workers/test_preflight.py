"""The memory preflight: what does not fit is refused with the arithmetic."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from fake_nvidia_smi import gpu, install
from loguru import logger

from llmserve.domain import AdapterSpec, ModelSpec
from llmserve.engines.factory import bytes_needed
from llmserve.engines.options import EngineOptions
from llmserve.engines.weights.footprint import footprint
from llmserve.errors import ConfigurationError
from llmserve.settings import Settings
from llmserve.workers.preflight import (
    FreeMemory,
    check_memory,
    is_on_gpu,
    measure_memory,
    worker_bytes,
)

GIB = 2**30


@pytest.fixture
def model(tmp_path: Path) -> ModelSpec:
    """Two GiB of float32 weights; 4 layers × 2 KV heads × 64 × 2 × 4 bytes = 4 KiB a token."""
    config = {
        "num_hidden_layers": 4,
        "num_attention_heads": 8,
        "num_key_value_heads": 2,
        "hidden_size": 512,
        "max_position_embeddings": 8192,
        "dtype": "float32",
    }
    (tmp_path / "config.json").write_text(json.dumps(config))
    with (tmp_path / "model.safetensors").open("wb") as file:
        file.truncate(2 * GIB)  # a hole: takes no room on the disk
    return ModelSpec("big", path=tmp_path)


def check(settings: Settings, model: ModelSpec, memory: FreeMemory) -> None:
    check_memory(settings, [model], lambda: memory)


def test_workers_that_do_not_fit_are_refused_with_the_arithmetic(model: ModelSpec) -> None:
    settings = Settings(workers=4, device="cpu")
    with pytest.raises(ConfigurationError) as refused:
        check(settings, model, FreeMemory(8 * GIB, {}))
    message = refused.value.message
    assert "4 workers do not fit on the host" in message
    assert "4 × 2.00 GiB (big: weights)" in message
    assert "4 × 0.25 GiB (big: KV cache)" in message
    assert "= 10.56 GiB, and 8.00 GiB are free" in message
    check(settings, model, FreeMemory(12 * GIB, {}))


def test_as_many_adapters_are_counted_as_are_loaded_at_once(
    model: ModelSpec, tmp_path: Path
) -> None:
    for number, size in enumerate((1, 3, 2)):
        (tmp_path / f"a{number}").mkdir()
        with (tmp_path / f"a{number}" / "adapter_model.safetensors").open("wb") as file:
            file.truncate(size * GIB)
    paths = [tmp_path / name for name in ("a0", "a1", "a2", "gone")]
    adapters = [AdapterSpec(path.name, path=path) for path in paths]
    adapters.append(AdapterSpec("far", hub_id="org/far"))
    adapted = replace(model, adapters=tuple(adapters))
    with pytest.raises(ConfigurationError, match=r"1 × 5\.00 GiB \(big: adapters\)"):
        check(Settings(device="cpu", max_adapters=2), adapted, FreeMemory(4 * GIB, {}))
    options = EngineOptions(lambda spec, report: tmp_path, max_adapters=2)
    assert bytes_needed(adapted, options) - bytes_needed(model, options) == 5 * GIB
    settings = Settings(max_adapters=2)
    assert worker_bytes(settings, [adapted]) - worker_bytes(settings, [model]) == 5 * GIB


def test_each_gpu_is_counted_for_itself(model: ModelSpec) -> None:
    settings = Settings(workers=3, devices=("cuda:0", "cuda:1"))
    with pytest.raises(ConfigurationError, match=r"on cuda:0: 2 × 2\.00 GiB.*4\.00 GiB are free"):
        check(settings, model, FreeMemory(64 * GIB, {0: 4 * GIB, 1: 4 * GIB}))
    check(settings, model, FreeMemory(64 * GIB, {0: 5 * GIB, 1: 3 * GIB}))


def test_auto_counts_all_gpus_together_and_the_host_holds_the_processes(model: ModelSpec) -> None:
    settings = Settings(workers=3)
    check(settings, model, FreeMemory(2 * GIB, {0: 4 * GIB, 1: 4 * GIB}))
    with pytest.raises(ConfigurationError, match=r"on the host: 3 × 0\.39 GiB"):
        check(settings, model, FreeMemory(GIB, {0: 40 * GIB}))


def test_what_cannot_be_measured_or_is_not_downloaded_is_not_refused(model: ModelSpec) -> None:
    check(Settings(workers=200, device="cpu"), model, FreeMemory(None, {}))
    check_memory(Settings(), [ModelSpec("far", hub_id="org/far")], lambda: FreeMemory(GIB, {}))


def test_a_dtype_of_half_the_size_needs_half(model: ModelSpec, tmp_path: Path) -> None:
    full = footprint(model, max_running=4)
    half = footprint(ModelSpec("big", path=tmp_path, dtype="bfloat16"), max_running=4)
    assert full is not None
    assert half is not None
    assert (full.weights, full.cache) == (2 * GIB, 4096 * 2048 * 4)
    assert full.total == 2 * half.total
    short = footprint(ModelSpec("big", path=tmp_path, max_context=100), max_running=1)
    assert short is not None
    assert short.cache == 4096 * 100


def test_recurrent_states_come_beside_the_keys_and_values_of_layers_that_attend(
    model: ModelSpec, tmp_path: Path
) -> None:
    config = json.loads((tmp_path / "config.json").read_text()) | {
        "layer_types": ["linear_attention"] * 3 + ["full_attention"],
        "linear_num_key_heads": 2, "linear_num_value_heads": 4,
        "linear_key_head_dim": 8, "linear_value_head_dim": 16, "linear_conv_kernel_dim": 4,
    }  # fmt: skip
    (tmp_path / "config.json").write_text(json.dumps(config))
    states = 3 * (4 * 8 * 16 + 96 * 4) * 4
    size = footprint(model, max_running=4)
    assert size is not None
    assert size.cache == 1024 * 2048 * 4 + 2 * 4 * states
    asked = footprint(model, max_running=4, kv_cache_bytes=1000)
    assert asked is not None
    assert asked.cache == 1000 + 2 * 4 * states


@pytest.mark.parametrize(
    ("config", "per_token"),
    [
        ({"head_dim": 24, "v_head_dim": 16, "num_key_value_heads": 2}, 4 * 2 * 40),
        ({"kv_lora_rank": 64, "qk_rope_head_dim": 8, "v_head_dim": 16}, 4 * 72),
        ({"head_dim": 16, "num_key_value_heads": 2, "num_kv_shared_layers": 3}, 2 * 2 * 16),
    ],
    ids=["widths", "latents", "shared"],
)
def test_a_cache_is_estimated_by_what_is_stored(
    tmp_path: Path, config: dict[str, int], per_token: int
) -> None:
    config |= {"num_hidden_layers": 4, "num_attention_heads": 8, "hidden_size": 128}
    (tmp_path / "config.json").write_text(json.dumps(config))
    (tmp_path / "model.safetensors").write_bytes(b"1234")
    size = footprint(ModelSpec("m", path=tmp_path, dtype="bfloat16", max_context=10), 1)
    assert size is not None
    assert size.cache == per_token * 2 * 10


def test_a_folder_without_weights_or_config_has_no_footprint(tmp_path: Path) -> None:
    assert footprint(ModelSpec("none", path=tmp_path), 1) is None
    assert footprint(ModelSpec("far", hub_id="a/b"), 1) is None
    (tmp_path / "model.bin").write_bytes(b"1234")
    (tmp_path / "config.json").write_text("[]")
    size = footprint(ModelSpec("odd", path=tmp_path), 1)
    assert size is not None
    assert (size.weights, size.cache) == (4, 0)


@pytest.fixture
def gpus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Three of one kind, with 10, 20 and 30 MiB free."""
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    install(tmp_path, [gpu("GPU-aa", 10), gpu("GPU-bb", 20), gpu("GPU-cc", 30)])


@pytest.mark.usefixtures("gpus")
@pytest.mark.parametrize(
    ("chosen", "mebibytes"),
    [(None, [10, 20, 30]), ("2", [30]), ("1,0", [20, 10]), ("GPU-cc,GPU-a", [30, 10]), ("", [])],
)
def test_cuda_visible_devices_says_which_gpus_there_are_and_their_numbers(
    monkeypatch: pytest.MonkeyPatch, chosen: str | None, mebibytes: list[int]
) -> None:
    if chosen is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", chosen)
    assert measure_memory().gpus == {n: size * 2**20 for n, size in enumerate(mebibytes)}
    assert is_on_gpu(Settings(), measure_memory()) == bool(mebibytes)


def test_a_gpu_whose_memory_nobody_tells_is_not_refused(model: ModelSpec) -> None:
    check(Settings(device="cuda:0"), model, FreeMemory(64 * GIB, {0: None}))
    check(Settings(), model, FreeMemory(64 * GIB, {0: GIB, 1: None}))
    with pytest.raises(ConfigurationError, match="on the host"):
        check(Settings(), model, FreeMemory(GIB // 4, {0: None}))


def test_this_machine_has_memory() -> None:
    memory = measure_memory()
    assert memory.host is not None
    assert memory.host > 0
    assert not is_on_gpu(Settings(device="cpu"), FreeMemory(None, {0: 1}))
    assert is_on_gpu(Settings(), FreeMemory(None, {0: 1}))
    assert is_on_gpu(Settings(devices=("cpu", "cuda:1")), FreeMemory(None, {}))


def test_weights_beyond_the_budget_for_models_are_refused(model: ModelSpec) -> None:
    with pytest.raises(
        ConfigurationError, match=r"models_memory_bytes, which is 1\.00 GiB: 2\.00 GiB \(big\)"
    ):
        check(Settings(models_memory_bytes=GIB), model, FreeMemory(64 * GIB, {}))
    check(Settings(models_memory_bytes=3 * GIB), model, FreeMemory(64 * GIB, {}))


@pytest.fixture
def logged() -> Iterator[list[str]]:
    lines: list[str] = []
    sink = logger.add(lines.append, format="{message}", level="WARNING")
    yield lines
    logger.remove(sink)


def on_demand(model: ModelSpec, gib: float, **settings: Any) -> None:
    small = replace(model, name="small")
    later = replace(model, name="later", argument="later")
    check_memory(
        Settings(device="cpu", **settings),
        [small],
        lambda: FreeMemory(int(gib * GIB), {}),
        on_demand=[later],
    )


def test_a_named_model_on_demand_that_never_fits_is_refused(model: ModelSpec) -> None:
    with pytest.raises(ConfigurationError, match="'later', on demand, never fits on") as refused:
        on_demand(model, 4, models_on_demand=("later",))
    assert "(small: weights)" in refused.value.message
    assert "KV cache" not in refused.value.message
    on_demand(model, 5, models_on_demand=("later",))


def test_one_of_a_whole_folder_is_told_of(model: ModelSpec, logged: list[str]) -> None:
    on_demand(model, 4, models_on_demand=("*",))
    assert any("'later', on demand, never fits" in line for line in logged)


def test_what_is_evicted_for_it_is_not_in_its_way(model: ModelSpec) -> None:
    evicting = {"models_on_demand": ("later",), "models_memory_bytes": 3 * GIB}
    on_demand(model, 4, **evicting)
    with pytest.raises(ConfigurationError, match="never fits"):
        on_demand(model, 4, pinned_models=("small",), **evicting)
