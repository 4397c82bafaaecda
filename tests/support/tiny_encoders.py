"""Encoders of random weights in sentence-transformers' layout: true families, made in a moment."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any, Final

import tokenizers
import torch
import transformers
from tokenizers import models, normalizers, pre_tokenizers, processors, trainers

CORPUS: Final = (
    "the little fox ran over the hill and into the wood",
    "how do I warm a model before the first request comes",
    "what is the weather in Paris today, and will it rain tomorrow?",
    "a server keeps its keys in a file; rotate them every month",
)
TEXTS: Final = (
    "the fox",
    "",
    "how do I warm a model before the first request comes, and what is the weather " * 2,
    "Rain!",
    "a server keeps its keys in a file",
    "what will the little fox do tomorrow in the wood over the hill?",
)
"""Of different lengths, an empty one among them."""
SHAPE: Final[Mapping[str, Any]] = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
}
FAMILIES: Final[Mapping[str, Callable[[int], Any]]] = {
    "bert": lambda vocab: transformers.BertConfig(
        vocab_size=vocab, max_position_embeddings=64, **SHAPE
    ),
    "roberta": lambda vocab: transformers.RobertaConfig(
        vocab_size=vocab, max_position_embeddings=66, pad_token_id=1, type_vocab_size=1, **SHAPE
    ),
    "xlm-roberta": lambda vocab: transformers.XLMRobertaConfig(
        vocab_size=vocab, max_position_embeddings=66, pad_token_id=1, type_vocab_size=1, **SHAPE
    ),
    "distilbert": lambda vocab: transformers.DistilBertConfig(
        vocab_size=vocab, dim=32, hidden_dim=48, n_layers=2, n_heads=4, max_position_embeddings=64
    ),
    "mpnet": lambda vocab: transformers.MPNetConfig(
        vocab_size=vocab, max_position_embeddings=66, pad_token_id=1, **SHAPE
    ),
    "modernbert": lambda vocab: transformers.ModernBertConfig(
        vocab_size=vocab, max_position_embeddings=64, local_attention=8, pad_token_id=0,
        cls_token_id=2, sep_token_id=3, bos_token_id=2, eos_token_id=3,
        global_attn_every_n_layers=2, **SHAPE,
    ),
    "qwen3": lambda vocab: transformers.Qwen3Config(
        vocab_size=vocab, max_position_embeddings=64, num_key_value_heads=2, head_dim=8,
        eos_token_id=3, pad_token_id=3, **SHAPE,
    ),
    "gemma3": lambda vocab: transformers.Gemma3TextConfig(
        vocab_size=vocab, max_position_embeddings=64, num_key_value_heads=1, head_dim=8,
        use_bidirectional_attention=True, sliding_window=8, query_pre_attn_scalar=8,
        eos_token_id=3, pad_token_id=0, bos_token_id=2, **SHAPE,
    ),
}  # fmt: skip


@cache
def _words() -> str:
    """A tokenizer's JSON, without what it puts around texts."""
    made = tokenizers.Tokenizer(models.WordPiece(unk_token="<unk>"))
    made.normalizer = normalizers.Lowercase()
    made.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    trainer = trainers.WordPieceTrainer(
        vocab_size=300,
        special_tokens=["<pad>", "<pad1>", "<s>", "</s>", "<unk>"],
        show_progress=False,
    )
    made.train_from_iterator(CORPUS, trainer)
    return made.to_str()


def tokenizer(family: str) -> transformers.PreTrainedTokenizerFast:
    """Puts special tokens around texts as the family's own does."""
    made = tokenizers.Tokenizer.from_str(_words())
    ids = {name: made.token_to_id(name) for name in ("<s>", "</s>")}
    forms = {
        "qwen3": ("$A </s>", "$A $B </s>"),
        "roberta": ("<s> $A </s>", "<s> $A </s> </s> $B </s>"),
        "xlm-roberta": ("<s> $A </s>", "<s> $A </s> </s> $B </s>"),
        "mpnet": ("<s> $A </s>", "<s> $A </s> </s> $B </s>"),
    }
    single, pair = forms.get(family, ("<s> $A </s>", "<s> $A </s> $B:1 </s>:1"))
    made.post_processor = processors.TemplateProcessing(
        single=single, pair=pair, special_tokens=list(ids.items())
    )
    pad = {"qwen3": "</s>", "roberta": "<pad1>", "xlm-roberta": "<pad1>", "mpnet": "<pad1>"}
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=made,
        unk_token="<unk>",
        pad_token=pad.get(family, "<pad>"),
        cls_token="<s>",
        sep_token="</s>",
        eos_token="</s>",
        padding_side="left" if family == "qwen3" else "right",
        model_input_names=["input_ids", "attention_mask"]
        + (["token_type_ids"] if family == "bert" else []),
    )


def save_transformer(
    folder: Path, family: str = "bert", model: Any = transformers.AutoModel, **fields: Any
) -> Path:
    """A transformer and its tokenizer alone."""
    made = tokenizer(family)
    config = FAMILIES[family](len(made))
    config.update(fields)
    torch.manual_seed(0)
    weights = model.from_config(config)
    for parameter in weights.parameters():  # the usual ones are too small to tell inputs apart
        torch.nn.init.normal_(parameter, std=0.3) if parameter.dim() > 1 else None
    weights.save_pretrained(folder)
    made.save_pretrained(folder)
    return folder


def save_encoder(
    folder: Path,
    family: str = "bert",
    *,
    pooling: str | Sequence[str] = "mean",
    modules: Sequence[Mapping[str, Any]] = (),
    is_normalized: bool = False,
    prompts: Mapping[str, str] | None = None,
    default_prompt: str | None = None,
    max_tokens: int | None = None,
    **pooling_fields: Any,
) -> Path:
    """A model in sentence-transformers' layout. `modules` have a `type`, a `config`, and `weights`
    where they have any."""
    save_transformer(folder, family)
    pooling_config = {"embedding_dimension": 32, "pooling_mode": pooling} | pooling_fields
    listed: list[Mapping[str, Any]] = [{"type": "Pooling", "config": pooling_config}, *modules]
    if is_normalized:
        listed.append({"type": "Normalize", "config": {}})
    entries = [{"idx": 0, "name": "0", "path": "", "type": _type("Transformer")}]
    for number, module in enumerate(listed, start=1):
        place = folder / f"{number}_{module['type']}"
        place.mkdir()
        (place / "config.json").write_text(json.dumps(module["config"]))
        if "weights" in module:
            from safetensors.torch import save_file

            save_file(module["weights"], place / "model.safetensors")
        name = _type(module["type"])
        entries.append({"idx": number, "name": str(number), "path": place.name, "type": name})
    (folder / "modules.json").write_text(json.dumps(entries))
    (folder / "sentence_bert_config.json").write_text(
        json.dumps({"max_seq_length": max_tokens, "do_lower_case": False})
    )
    settings = {"prompts": dict(prompts or {}), "default_prompt_name": default_prompt}
    (folder / "config_sentence_transformers.json").write_text(json.dumps(settings))
    return folder


def save_classifier(folder: Path, family: str = "bert", **fields: Any) -> Path:
    """A transformer with a head for classes, or with `num_labels=1` for scores of pairs."""
    return save_transformer(
        folder, family, transformers.AutoModelForSequenceClassification, **fields
    )


def dense(width: int, out: int, activation: str = "Tanh", seed: int = 1) -> Mapping[str, Any]:
    """A Dense module."""
    torch.manual_seed(seed)
    return {
        "type": "Dense",
        "config": {
            "in_features": width,
            "out_features": out,
            "bias": True,
            "activation_function": f"torch.nn.modules.activation.{activation}"
            if activation != "Identity"
            else "torch.nn.modules.linear.Identity",
        },
        "weights": {"linear.weight": torch.randn(out, width), "linear.bias": torch.randn(out)},
    }


def _type(kind: str) -> str:
    return f"sentence_transformers.models.{kind}"
