"""What a config.json says of packed weights."""

from __future__ import annotations

from typing import Any

import pytest

from llmserve.engines.weights.declared import declared_in


@pytest.mark.parametrize(
    ("values", "method", "bits"),
    [
        ({"quant_method": "fp8", "weight_block_size": [128, 128]}, "fp8", 8),
        ({"quant_method": "mxfp4"}, "mxfp4", 4),
        ({"quant_method": "bitsandbytes", "load_in_8bit": True}, "bitsandbytes", 8),
        ({"load_in_4bit": True}, "bitsandbytes", 4),
        ({"quant_method": "gptq", "bits": 4}, "gptq", 4),
        ({"quant_method": "awq", "w_bit": 4}, "awq", 4),
        ({"quant_method": "gptq", "bits": "four"}, "gptq", None),
        (
            {
                "quant_method": "torchao",
                "quant_type": {"default": {"_type": "Int8WeightOnlyConfig"}},
            },
            "torchao",
            8,
        ),
        ({"quant_method": "torchao", "quant_type": "Float8WeightOnlyConfig"}, "torchao", 8),
        (
            {
                "quant_method": "compressed-tensors",
                "config_groups": {"group_0": {"weights": {"num_bits": 4}}},
            },
            "compressed-tensors",
            4,
        ),
        ({"quant_method": "compressed-tensors", "config_groups": None}, "compressed-tensors", None),
        ({"quant_method": "of tomorrow"}, "of tomorrow", None),
    ],
)
def test_method_and_bits_are_found(values: dict[str, Any], method: str, bits: int | None) -> None:
    for config in (values_of(values), {"text_config": values_of(values)}):
        found = declared_in(config)
        assert found is not None
        assert (found.method, found.bits) == (method, bits)


def values_of(values: dict[str, Any]) -> dict[str, Any]:
    return {"quantization_config": values}


@pytest.mark.parametrize(
    "config", [{}, {"quantization_config": None}, {"quantization_config": {}}, {"text_config": 7}]
)
def test_what_says_nothing_is_not_packed(config: dict[str, Any]) -> None:
    assert declared_in(config) is None
