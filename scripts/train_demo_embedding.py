#!/usr/bin/env python3
"""Trains models/demo-embedding: a small BERT and its tokenizer, on pairs that are written here.

Deterministic for a given machine, options and version of torch. Ends with an exam: for questions
that hardly use the words of their answers (demo_corpus/indirect_questions.toml), the entry of
faq.toml is looked for; exits with 1 if it is too seldom among the three nearest.

    scripts/train_demo_embedding.py [--out models/demo-embedding] [--steps 1000]
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import tomllib
from pathlib import Path
from typing import Any, Final

import torch
from tokenizers import (
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    processors,
    trainers,
)
from torch.nn.functional import normalize
from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

sys.path.insert(0, str(Path(__file__).parent))
from demo_corpus.dialogues import read_faq
from demo_corpus.pairs import Pair, Pairs, entry_text
from demo_training import be_deterministic, keep_memory, make_readable, rate

SEED: Final = 7
VOCABULARY: Final = 2048
CONTEXT: Final = 512
HIDDEN: Final = 128
TRAINED_LENGTH: Final = 128
"""Tokens of a text in training; the rest is cut off."""

PAIRS_PER_STEP: Final = 64
CHUNKS: Final = 6
"""Texts of a step are computed in so many batches by length, so that little is padding."""

LEARNING_RATE: Final = 2e-3
TEMPERATURE: Final = 0.06
DIMENSIONS: Final = (HIDDEN, 64, 32)
"""Beginnings of an embedding that are trained to be embeddings themselves (Matryoshka)."""

PAD, START, END = "[PAD]", "[CLS]", "[SEP]"
EXAM_FILE: Final = Path(__file__).parent / "demo_corpus" / "indirect_questions.toml"
BAR: Final = 0.6
"""Share of the exam's questions whose answer must be among the three nearest entries."""

MANIFEST: Final = """\
# The demo's embedding model: trained by scripts/train_demo_embedding.py, served by default.
dtype = "float32"
"""
CARD: Final = """\
---
language: en
license: {license}
library_name: sentence-transformers
pipeline_tag: sentence-similarity
---
# demo-embedding

A BERT of {layers} layers and {parameters:.2f} million parameters, in float32, made by
`scripts/train_demo_embedding.py` from nothing but the demo's corpus (`scripts/demo_corpus`):
questions about llmserve in many wordings, their answers, small talk, tools and short stories. It
shows what `/v1/embeddings` and `/v1/rerank` do, and finds the answers to questions about llmserve.
For anything else take a real model.

Embeddings have {hidden} numbers and length 1, are means over tokens, and may be cut to 64 or 32
numbers. Inputs have up to {context} tokens, of an uncased byte-level BPE. No prompts are needed.
"""


def main() -> int:
    """Train, save, ask."""
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--out", type=Path, default=Path("models/demo-embedding"))
    arguments.add_argument("--steps", type=int, default=1000)
    arguments.add_argument("--threads", type=int, default=1)
    options = arguments.parse_args()

    keep_memory()
    be_deterministic(SEED, options.threads)
    tokenizer = train_tokenizer()
    model = build_model(tokenizer)
    print(f"{model.num_parameters() / 1e6:.2f}M parameters", flush=True)
    train(model, tokenizer, options.steps)
    save(model, tokenizer, options.out)
    return evaluate(model, tokenizer)


def train_tokenizer() -> PreTrainedTokenizerFast:
    """An uncased byte-level BPE: every text of every language has tokens."""
    bpe = Tokenizer(models.BPE())
    bpe.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Lowercase()])
    bpe.pre_tokenizer = pre_tokenizers.Sequence([
        pre_tokenizers.Punctuation("isolated"),
        pre_tokenizers.Digits(individual_digits=True),
        pre_tokenizers.ByteLevel(add_prefix_space=True),
    ])  # fmt: skip
    bpe.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=[PAD, START, END],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    pairs = Pairs(random.Random(SEED))
    drawn = (pairs.draw() for _ in range(20_000))
    bpe.train_from_iterator((t for pair in drawn for t in (pair.query, pair.passage)), trainer)
    ends = [(token, bpe.token_to_id(token)) for token in (START, END)]
    bpe.post_processor = processors.TemplateProcessing(
        single=f"{START} $A {END}", pair=f"{START} $A {END} $B:1 {END}:1", special_tokens=ends
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=bpe,
        pad_token=PAD,
        cls_token=START,
        sep_token=END,
        model_max_length=CONTEXT,
        clean_up_tokenization_spaces=False,
    )


def build_model(tokenizer: PreTrainedTokenizerFast) -> BertModel:
    """A BERT of two narrow layers."""
    config = BertConfig(
        vocab_size=len(tokenizer),
        hidden_size=HIDDEN,
        intermediate_size=3 * HIDDEN,
        num_hidden_layers=2,
        num_attention_heads=4,
        max_position_embeddings=CONTEXT,
        type_vocab_size=1,
        hidden_dropout_prob=0.0,  # texts are disturbed enough
        attention_probs_dropout_prob=0.0,
        pad_token_id=tokenizer.pad_token_id,
    )
    model = BertModel(config, add_pooling_layer=False)
    model.set_attn_implementation("eager")  # the fused one is slow in short rows
    return model


def train(model: BertModel, tokenizer: PreTrainedTokenizerFast, steps: int) -> list[float]:
    """AdamW with warm-up and cosine decay; returns the loss of each step."""
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=LEARNING_RATE, betas=(0.9, 0.98), weight_decay=0.05, fused=True
    )
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: rate(step, steps))
    pairs = Pairs(random.Random(SEED + 1))
    model.train()
    losses = []
    for step in range(steps):
        batch = [pairs.draw() for _ in range(PAIRS_PER_STEP)]
        loss = contrastive_loss(model, tokenizer, batch)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        schedule.step()
        losses.append(loss.item())
        if step % 50 == 0 or step + 1 == steps:
            print(f"step {step} loss {sum(losses[-50:]) / len(losses[-50:]):.3f}", flush=True)
    model.eval()
    return losses


def contrastive_loss(
    model: BertModel, tokenizer: PreTrainedTokenizerFast, batch: list[Pair]
) -> torch.Tensor:
    """Each text must be nearer to its partner than to those of other topics, both ways round."""
    texts = [pair.query for pair in batch] + [pair.passage for pair in batch]
    queries, passages = embed(model, tokenizer, texts, CHUNKS).chunk(2)  # (num_pairs, hidden)
    topics = [pair.topic for pair in batch]
    is_same = torch.tensor([[one == other for other in topics] for one in topics])
    is_same.fill_diagonal_(False)
    own = torch.arange(len(batch))
    losses = []
    for size in DIMENSIONS:
        ours, theirs = (normalize(side[:, :size], dim=1) for side in (queries, passages))
        scores = (ours @ theirs.T / TEMPERATURE).masked_fill(is_same, float("-inf"))
        losses += [torch.nn.functional.cross_entropy(s, own) for s in (scores, scores.T)]
    return torch.stack(losses).mean()


def embed(
    model: BertModel, tokenizer: PreTrainedTokenizerFast, texts: list[str], chunks: int = 1
) -> torch.Tensor:
    """Means over tokens, (num_texts, hidden), in the texts' order."""
    bound = TRAINED_LENGTH if model.training else CONTEXT
    ids = tokenizer(texts, truncation=True, max_length=bound).input_ids
    order = sorted(range(len(ids)), key=lambda index: len(ids[index]))
    size = -(-len(ids) // chunks)
    means = []
    for start in range(0, len(ids), size):
        chosen = [{"input_ids": ids[index]} for index in order[start : start + size]]
        batch = tokenizer.pad(chosen, return_tensors="pt")
        length = batch.input_ids.shape[1]
        # Every position is trained, though texts are short.
        shift = random.randint(0, CONTEXT - length) if model.training else 0
        positions = torch.arange(length)[None] + shift
        hidden = model(**batch, position_ids=positions).last_hidden_state
        mask = batch.attention_mask[:, :, None]
        means.append((hidden * mask).sum(1) / mask.sum(1))
    places = torch.empty(len(ids), dtype=torch.long)
    places[torch.tensor(order)] = torch.arange(len(ids))
    return torch.cat(means)[places]


def save(model: BertModel, tokenizer: PreTrainedTokenizerFast, out: Path) -> None:
    """Weights, tokenizer, sentence-transformers' files, manifest and card."""
    model.save_pretrained(out)
    tokenizer.save_pretrained(out)
    kind = "sentence_transformers.models"
    _write(out / "modules.json", [
        {"idx": 0, "name": "0", "path": "", "type": f"{kind}.Transformer"},
        {"idx": 1, "name": "1", "path": "1_Pooling", "type": f"{kind}.Pooling"},
        {"idx": 2, "name": "2", "path": "2_Normalize", "type": f"{kind}.Normalize"},
    ])  # fmt: skip
    _write(out / "sentence_bert_config.json", {"max_seq_length": CONTEXT, "do_lower_case": False})
    _write(out / "config_sentence_transformers.json", {
        "prompts": {"query": "", "document": ""},
        "default_prompt_name": None,
        "similarity_fn_name": "cosine",
    })  # fmt: skip
    _write(out / "1_Pooling" / "config.json", {
        "word_embedding_dimension": HIDDEN, "pooling_mode_mean_tokens": True,
    })  # fmt: skip
    (out / "model.toml").write_text(MANIFEST)
    config = model.config
    (out / "README.md").write_text(CARD.format(
        license="apache-2.0", layers=config.num_hidden_layers, hidden=HIDDEN, context=CONTEXT,
        parameters=model.num_parameters() / 1e6,
    ))  # fmt: skip
    make_readable(out)


def evaluate(model: BertModel, tokenizer: PreTrainedTokenizerFast) -> int:
    """Hold the exam; 0 if enough answers are found."""
    exam: dict[str, list[str]] = tomllib.loads(EXAM_FILE.read_text(encoding="utf-8"))
    asked = [(name, question) for name, questions in exam.items() for question in questions]
    ranks = find_entries(model, tokenizer, asked)
    for (name, question), rank in zip(asked, ranks, strict=True):
        if rank > 3:
            print(f"MISSED {question!r}: {name!r} is number {rank}")
    first, found = (sum(rank <= bound for rank in ranks) for bound in (1, 3))
    print(f"first: {first}/{len(asked)}, among three: {found}/{len(asked)}")
    return 0 if found >= BAR * len(asked) else 1


@torch.inference_mode()
def find_entries(
    model: BertModel, tokenizer: PreTrainedTokenizerFast, asked: list[tuple[str, str]]
) -> list[int]:
    """For ids of entries and questions: the rank that the entry has among all for the question."""
    faq = read_faq()
    entries = normalize(embed(model, tokenizer, [entry_text(entry) for entry in faq]), dim=1)
    questions = normalize(embed(model, tokenizer, [question for _, question in asked]), dim=1)
    order = (questions @ entries.T).argsort(dim=1, descending=True).tolist()
    names = [entry.id for entry in faq]
    return [
        [names[index] for index in ranked].index(name) + 1
        for (name, _), ranked in zip(asked, order, strict=True)
    ]


def _write(path: Path, content: Any) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(content, indent=2) + "\n")


if __name__ == "__main__":
    sys.exit(main())
