#!/usr/bin/env python3
"""Trains models/demo: a small Llama and its tokenizer, on a corpus that is written here.

Deterministic for a given machine, options and version of torch. Ends with the exam of
demo_corpus/exam.py: the questions of faq.toml, tools and JSON; exits with 1 if too many answers of
a subject are wrong.

    scripts/train_demo_model.py [--out models/demo] [--device cuda] [--writers 6]
"""

from __future__ import annotations

import argparse
import itertools
import math
import random
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any, Final

import torch
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from torch.utils.data import DataLoader, IterableDataset, get_worker_info
from transformers import GenerationConfig, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

sys.path.insert(0, str(Path(__file__).parent))
from demo_corpus.documents import (
    CALL_END,
    CALL_START,
    CHAT_TEMPLATE,
    END_OF_TEXT,
    FAQ,
    TURN_END,
    TURN_START,
    write_document,
)
from demo_corpus.exam import Exercise, write_exam
from demo_corpus.rows import NOT_LEARNED, Packer, encode
from demo_training import be_deterministic, keep_memory, make_readable, rate
from induction_heads import plant_induction_heads

SEED: Final = 7
VOCABULARY: Final = 2048
CONTEXT: Final = 1024
TOKENS_PER_STEP: Final = 16384
STAGES: Final = ((0.05, 128), (0.96, 512), (1.0, CONTEXT))
"""Up to which part of training rows have which length: short ones cost less."""

LEARNING_RATE: Final = 1.5e-3
EXERCISES_AT_ONCE: Final = 64
MANIFEST: Final = """\
# The demo model: trained by scripts/train_demo_model.py, served by default.
dtype = "float32"
aliases = ["default"]

[sampling]
temperature = 0.7

[warmup]
prompts = ["Once upon a time"]
"""
SAMPLES: Final = ("Once upon a time", "The little fox", "One sunny morning,")


def main() -> int:
    """Train, save, ask."""
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--out", type=Path, default=Path("models/demo"))
    arguments.add_argument("--steps", type=int, default=3000)
    arguments.add_argument("--tokens-per-step", type=int, default=TOKENS_PER_STEP)
    arguments.add_argument("--learning-rate", type=float, default=LEARNING_RATE)
    arguments.add_argument("--device", type=torch.device, default="cpu")
    arguments.add_argument("--threads", type=int, default=1, help="of torch, on a CPU")
    arguments.add_argument("--writers", type=int, default=1, help="processes that write documents")
    options = arguments.parse_args()

    keep_memory()
    be_deterministic(SEED, options.threads)

    tokenizer = train_tokenizer()
    model = build_model(tokenizer).to(options.device)
    print(f"{sum(p.numel() for p in model.parameters()) / 1e6:.2f}M parameters")
    rows = Rows(tokenizer, options.steps, options.tokens_per_step)
    train(model, rows, options.learning_rate, options.writers)
    save(model, tokenizer, options.out)
    return evaluate(options.out, options.device)


def train_tokenizer() -> PreTrainedTokenizerFast:
    """A byte-level BPE: every text of every language has tokens.

    Digits stand alone, and so does the space before a capital: a number or a name has the same
    tokens in a sentence and in JSON, so that a small model can copy it.
    """
    rng = random.Random(SEED)
    special, calls = [END_OF_TEXT, TURN_START, TURN_END], [CALL_START, CALL_END]
    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.Sequence([
        pre_tokenizers.Split(Regex(r"\d| (?=[A-Z])"), "isolated"),
        pre_tokenizers.ByteLevel(add_prefix_space=False),
    ])  # fmt: skip
    bpe.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY - len(calls),
        special_tokens=special,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    render = partial(_rendered, _wrapped(bpe))
    documents = (write_document(rng, render) for _ in range(5000))
    texts = ("".join(part.text for part in document) for document in documents)
    bpe.train_from_iterator((_without(special + calls, text) for text in texts), trainer)
    # Not special: what calls a tool is part of the answer's text.
    bpe.add_tokens([AddedToken(call, normalized=False, special=False) for call in calls])
    return _wrapped(bpe)


def build_model(tokenizer: PreTrainedTokenizerFast) -> LlamaForCausalLM:
    """A Llama of four layers that can copy from the start."""
    ends = [tokenizer.convert_tokens_to_ids(t) for t in (TURN_END, END_OF_TEXT)]
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=256,
        intermediate_size=688,
        num_hidden_layers=4,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=CONTEXT,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=ends,
        pad_token_id=tokenizer.pad_token_id,
    )
    model = LlamaForCausalLM(config)
    model.set_attn_implementation("eager")  # the fused one is slow in short rows
    plant_induction_heads(model)
    model.generation_config = GenerationConfig(eos_token_id=ends, pad_token_id=ends[1])
    return model


class Rows(IterableDataset[tuple[torch.Tensor, torch.Tensor]]):
    """Token ids and labels of each step, both (rows, length). Of n writers each makes those of
    every n-th step."""

    def __init__(self, tokenizer: PreTrainedTokenizerFast, steps: int, tokens: int) -> None:
        self.steps = steps
        self._tokenizer = tokenizer
        self._tokens = tokens

    def __iter__(self) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        writer = get_worker_info()
        own, count = (writer.id, writer.num_workers) if writer else (0, 1)
        rng = random.Random(SEED + 1 + own)
        render = partial(_rendered, self._tokenizer)
        tokenize = partial(self._tokenizer.encode, add_special_tokens=False)
        documents = (encode(write_document(rng, render), tokenize) for _ in itertools.count())
        packer = Packer(documents, self._tokenizer.pad_token_id)
        for step in range(own, self.steps, count):
            length = next(length for end, length in STAGES if step < end * self.steps)
            rows = [packer.row(length) for _ in range(self._tokens // length)]
            ids, labels = ([getattr(row, name) for row in rows] for name in ("ids", "labels"))
            yield torch.tensor(ids), torch.tensor(labels)


def train(model: LlamaForCausalLM, rows: Rows, peak: float, writers: int) -> None:
    """AdamW with warm-up and cosine decay, in bfloat16 where that is safe."""
    parameters = list(model.parameters())
    optimizer = torch.optim.AdamW(
        parameters, lr=peak, betas=(0.9, 0.95), weight_decay=0.05, fused=True
    )
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: rate(step, rows.steps))
    columns = (
        TextColumn("step {task.completed:.0f}/{task.total:.0f} loss {task.fields[loss]:.3f}"),
        BarColumn(), TimeElapsedColumn(), TimeRemainingColumn(),
    )  # fmt: skip
    model.train()
    with Progress(*columns) as bar:
        task = bar.add_task("train", total=rows.steps, loss=math.nan)
        steps = DataLoader(rows, batch_size=None, num_workers=writers)
        for step, (ids, labels) in enumerate(steps):
            with torch.autocast(model.device.type, torch.bfloat16):
                loss = _loss(model, ids.to(model.device), labels.to(model.device))
            loss.backward()
            torch.nn.utils.clip_grad_norm_(parameters, 1.0)
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
            schedule.step()
            if step % 50 == 0 or step + 1 == rows.steps:
                bar.update(task, completed=step + 1, loss=loss.item())
                if not bar.console.is_terminal:
                    print(f"step {step} loss {loss.item():.3f}", flush=True)
    model.eval()


def save(model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, out: Path) -> None:
    """Weights in bfloat16, tokenizer, configs and manifest."""
    model.to(torch.bfloat16).save_pretrained(out)
    tokenizer.save_pretrained(out)
    (out / "model.toml").write_text(MANIFEST)
    make_readable(out)


def evaluate(folder: Path, device: torch.device) -> int:
    """Hold the exam and print some stories; 0 if enough answers of every subject are right."""
    tokenizer = PreTrainedTokenizerFast.from_pretrained(folder, padding_side="left")
    model = LlamaForCausalLM.from_pretrained(folder, dtype=torch.float32).to(device)
    has_passed = True
    for subject in write_exam(FAQ):
        answers = _answers(model, tokenizer, subject.exercises)
        right = 0
        for exercise, answer in zip(subject.exercises, answers, strict=True):
            right += exercise.accepts(answer)
            if not exercise.accepts(answer):
                asked = exercise.messages[-1]["content"]
                print(f"WRONG {asked!r} -> {answer!r}, not {exercise.expected!r}")
        share = right / len(answers)
        has_passed &= share >= subject.bar
        print(f"{subject.name}: {right}/{len(answers)} right ({share:.0%})", flush=True)
    for prompt in SAMPLES:
        ids = tokenizer(prompt, return_tensors="pt").input_ids.to(device)
        text = model.generate(ids, do_sample=True, temperature=0.7, max_new_tokens=120)
        print("---\n" + tokenizer.decode(text[0], skip_special_tokens=True))
    return 0 if has_passed else 1


def _answers(
    model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, exercises: list[Exercise]
) -> list[str]:
    """Greedy answers, each of which must end itself."""
    answers = []
    for start in range(0, len(exercises), EXERCISES_AT_ONCE):
        asked = exercises[start : start + EXERCISES_AT_ONCE]
        prompts = [
            _rendered(tokenizer, e.messages, e.tools, add_generation_prompt=True) for e in asked
        ]
        batch = tokenizer(prompts, add_special_tokens=False, padding=True, return_tensors="pt")
        batch = batch.to(model.device)
        outputs = model.generate(**batch, do_sample=False, max_new_tokens=120)
        for output in outputs[:, batch.input_ids.shape[1] :].tolist():
            ends = [output.index(i) for i in model.generation_config.eos_token_id if i in output]
            answer = tokenizer.decode(output[: min(ends, default=0)])
            answers.append(answer if ends else "(did not end)")
    return answers


def _loss(model: LlamaForCausalLM, ids: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """The mean loss of what is learned; logits are computed for nothing else."""
    hidden = model.model(input_ids=ids, use_cache=False).last_hidden_state[:, :-1]
    following = labels[:, 1:]
    is_learned = following != NOT_LEARNED
    logits = model.lm_head(hidden[is_learned])  # (num_learned, vocab)
    return torch.nn.functional.cross_entropy(logits.float(), following[is_learned])


def _wrapped(bpe: Tokenizer) -> PreTrainedTokenizerFast:
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=bpe,
        eos_token=TURN_END,
        pad_token=END_OF_TEXT,
        model_max_length=CONTEXT,
        clean_up_tokenization_spaces=False,
    )
    tokenizer.chat_template = CHAT_TEMPLATE
    return tokenizer


def _rendered(
    tokenizer: PreTrainedTokenizerFast,
    messages: list[dict[str, Any]],
    tools: list[dict[str, Any]] | None,
    *,
    add_generation_prompt: bool = False,
) -> str:
    rendered = tokenizer.apply_chat_template(
        messages, tools=tools, tokenize=False, add_generation_prompt=add_generation_prompt
    )
    return str(rendered)


def _without(special: list[str], document: str) -> str:
    for token in special:
        document = document.replace(token, " ")
    return document


if __name__ == "__main__":
    sys.exit(main())
