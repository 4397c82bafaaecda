"""Small checkpoints whose weights are packed, one for each method, made of a model in a folder."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

Tensors = dict[str, torch.Tensor]


def is_linear(name: str, tensor: torch.Tensor) -> bool:
    return tensor.ndim == 2 and "embed" not in name and "lm_head" not in name


def by_transformers(base: Path, out: Path, config: Any) -> Path:
    """Packed by one of transformers' own quantizers."""
    model = AutoModelForCausalLM.from_pretrained(
        base, dtype=torch.float32, quantization_config=config, device_map="cpu"
    )
    _copy(base, out)
    model.save_pretrained(out)
    return out


def torchao_int8(base: Path, out: Path) -> Path:
    from torchao.quantization import Int8WeightOnlyConfig
    from transformers import TorchAoConfig

    return by_transformers(base, out, TorchAoConfig(Int8WeightOnlyConfig()))


def bitsandbytes_nf4(base: Path, out: Path) -> Path:
    from transformers import BitsAndBytesConfig

    config = BitsAndBytesConfig(
        load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=True
    )
    return by_transformers(base, out, config)


def bitsandbytes_int8(base: Path, out: Path) -> Path:
    from transformers import BitsAndBytesConfig

    return by_transformers(base, out, BitsAndBytesConfig(load_in_8bit=True))


def compressed_int4(base: Path, out: Path) -> Path:
    """compressed-tensors' W4A16: groups of 32."""
    from compressed_tensors.compressors.pack_quantized.helpers import pack_to_int32

    def packed(name: str, weight: torch.Tensor) -> Iterator[tuple[str, torch.Tensor]]:
        groups = weight.reshape(len(weight), -1, 32)
        scale = groups.abs().amax(dim=-1, keepdim=True) / 7
        numbers = (groups / scale).round().clamp(-8, 7).to(torch.int8).reshape(weight.shape)
        yield f"{name}_packed", pack_to_int32(numbers, 4)
        yield f"{name}_scale", scale[..., 0]
        yield f"{name}_shape", torch.tensor(weight.shape)

    weights = _args(num_bits=4, type="int", strategy="group", group_size=32)
    return _rewritten(base, out, packed, _compressed(weights, "pack-quantized"))


def compressed_fp8(base: Path, out: Path) -> Path:
    """compressed-tensors' W8A8 in FP8: a scale for each row."""

    def packed(name: str, weight: torch.Tensor) -> Iterator[tuple[str, torch.Tensor]]:
        scale = weight.abs().amax(dim=-1, keepdim=True) / 448
        yield name, (weight / scale).to(torch.float8_e4m3fn)
        yield f"{name}_scale", scale

    weights = _args(num_bits=8, type="float", strategy="channel")
    inputs = _args(num_bits=8, type="float", strategy="token", dynamic=True)
    return _rewritten(base, out, packed, _compressed(weights, "float-quantized", inputs))


def fine_grained_fp8(base: Path, out: Path, block: int = 32) -> Path:
    """As DeepSeek's and Qwen's: a scale for each block."""

    def packed(name: str, weight: torch.Tensor) -> Iterator[tuple[str, torch.Tensor]]:
        rows, columns = (-(-size // block) for size in weight.shape)
        whole = torch.zeros(rows * block, columns * block)
        whole[: weight.shape[0], : weight.shape[1]] = weight
        blocks = whole.reshape(rows, block, columns, block)
        scale = blocks.abs().amax(dim=(1, 3), keepdim=True) / 448
        filled = (blocks / scale).reshape(whole.shape)
        cut = filled[: weight.shape[0], : weight.shape[1]].contiguous()
        yield name, cut.to(torch.float8_e4m3fn)
        yield f"{name}_scale_inv", scale[:, 0, :, 0].contiguous()

    told = {"quant_method": "fp8", "weight_block_size": [block, block], "fmt": "e4m3"}
    return _rewritten(base, out, packed, told)


def mxfp4(base: Path, out: Path) -> Path:
    """As gpt-oss': experts in blocks of 32, two numbers in a byte."""

    def packed(name: str, weight: torch.Tensor) -> Iterator[tuple[str, torch.Tensor]]:
        weight = weight.transpose(-2, -1)  # (experts, out, in)
        numbers = torch.arange(weight.numel() // 2, dtype=torch.int64) % 251
        blocks = numbers.to(torch.uint8).reshape(*weight.shape[:-1], -1, 16)
        yield f"{name}_blocks", blocks
        yield f"{name}_scales", torch.full(blocks.shape[:-1], 123, dtype=torch.uint8)

    def is_expert(name: str, tensor: torch.Tensor) -> bool:
        return name.endswith(("gate_up_proj", "down_proj")) and tensor.ndim == 3

    told = {"quant_method": "mxfp4", "modules_to_not_convert": []}
    return _rewritten(base, out, packed, told, is_expert)


def gguf_file(base: Path, file: Path, kind: str) -> Path:
    """A Llama as a GGUF file, its matrices of this kind (`Q8_0`), with its tokenizer."""
    import gguf

    config = json.loads((base / "config.json").read_text())
    heads, kv_heads = config["num_attention_heads"], config["num_key_value_heads"]
    writer = gguf.GGUFWriter(file, "llama")
    writer.add_block_count(config["num_hidden_layers"])
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_embedding_length(config["hidden_size"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_head_count(heads)
    writer.add_head_count_kv(kv_heads)
    writer.add_layer_norm_rms_eps(config["rms_norm_eps"])
    writer.add_rope_freq_base(config["rope_parameters"]["rope_theta"])
    writer.add_rope_dimension_count(config["head_dim"])
    writer.add_vocab_size(config["vocab_size"])
    _add_tokenizer(writer, base, config)
    quantization = getattr(gguf.GGMLQuantizationType, kind)
    for name, tensor in load_file(base / "model.safetensors").items():
        weight = tensor.float()
        if "q_proj" in name or "k_proj" in name:  # llama.cpp's order of rotated numbers
            count = heads if "q_proj" in name else kv_heads
            weight = weight.reshape(count, 2, -1, weight.shape[-1]).transpose(1, 2)
        array = numpy.ascontiguousarray(weight.reshape(tensor.shape).numpy())
        if tensor.ndim == 1 or kind == "F32":
            writer.add_tensor(_gguf_name(name), array)
        else:
            packed = gguf.quants.quantize(array, quantization)
            writer.add_tensor(_gguf_name(name), packed, raw_dtype=quantization)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return file


def _add_tokenizer(writer: Any, base: Path, config: dict[str, Any]) -> None:
    stored = json.loads((base / "tokenizer.json").read_text())
    added = {token["id"]: token["content"] for token in stored["added_tokens"]}
    ids = {index: text for text, index in stored["model"]["vocab"].items()} | added
    count = range(config["vocab_size"])
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("default")
    writer.add_token_list([ids.get(index, f"[PAD{index}]") for index in count])
    writer.add_token_types([3 if index in added else 1 for index in count])
    merges = stored["model"]["merges"]
    writer.add_token_merges([m if isinstance(m, str) else " ".join(m) for m in merges])
    writer.add_bos_token_id(config["bos_token_id"])
    writer.add_eos_token_id(config["eos_token_id"])
    writer.add_pad_token_id(config["pad_token_id"])
    writer.add_chat_template((base / "chat_template.jinja").read_text())


def _gguf_name(name: str) -> str:
    parts = {
        "model.embed_tokens": "token_embd", "model.norm": "output_norm", "lm_head": "output",
        "input_layernorm": "attn_norm", "post_attention_layernorm": "ffn_norm",
        "self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k", "self_attn.v_proj": "attn_v",
        "self_attn.o_proj": "attn_output", "mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up",
        "mlp.down_proj": "ffn_down",
    }  # fmt: skip
    name = name.removesuffix(".weight")
    if not name.startswith("model.layers."):
        return f"{parts[name]}.weight"
    number, _, part = name.removeprefix("model.layers.").partition(".")
    return f"blk.{number}.{parts[part]}.weight"


def _args(**told: Any) -> dict[str, Any]:
    return {"symmetric": True, "dynamic": False, **told}


def _compressed(
    weights: dict[str, Any], layout: str, inputs: dict[str, Any] | None = None
) -> dict[str, Any]:
    group = {"targets": ["Linear"], "weights": weights, "input_activations": inputs}
    return {
        "quant_method": "compressed-tensors",
        "format": layout,
        "quantization_status": "compressed",
        "ignore": ["lm_head"],
        "config_groups": {"group_0": {**group, "format": layout}},
    }


def _rewritten(
    base: Path,
    out: Path,
    packed: Callable[[str, torch.Tensor], Iterator[tuple[str, torch.Tensor]]],
    told: dict[str, Any],
    is_packed: Callable[[str, torch.Tensor], bool] = is_linear,
) -> Path:
    """The folder with its matrices packed, and a config that tells it."""
    _copy(base, out)
    tensors: Tensors = {}
    for name, tensor in load_file(base / "model.safetensors").items():
        if is_packed(name, tensor):
            tensors.update(packed(name, tensor.float()))
        else:
            tensors[name] = tensor
    save_file(tensors, out / "model.safetensors", metadata={"format": "pt"})
    config = json.loads((out / "config.json").read_text())
    (out / "config.json").write_text(json.dumps(config | {"quantization_config": told}))
    return out


def _copy(base: Path, out: Path) -> None:
    shutil.copytree(base, out, ignore=shutil.ignore_patterns("*.safetensors*"))
