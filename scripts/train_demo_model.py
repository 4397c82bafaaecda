#!/usr/bin/env python3
"""Trains models/demo: a small Llama and its tokenizer, on a corpus that is written here.

Deterministic for a given machine and version of torch. Ends by asking every question of
demo_corpus/faq.toml; exits with 1 if fewer than 95 % are answered right.

    scripts/train_demo_model.py [--out models/demo] [--steps 2000] [--threads 1]
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import itertools
import math
import random
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import torch
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import GenerationConfig, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

sys.path.insert(0, str(Path(__file__).parent))
from demo_corpus.dialogues import read_faq, write_dialogue
from demo_corpus.stories import write_story

SEED: Final = 7
VOCABULARY: Final = 2048
CONTEXT: Final = 1024
TOKENS_PER_STEP: Final = 4096
LONG_SHARE: Final = 0.15
"""The last part of training sees blocks of the full context, the rest of half of it."""

STORY_SHARE: Final = 0.55
LEARNING_RATE: Final = 4e-3
WARMUP_STEPS: Final = 60
M_TRIM_THRESHOLD: Final = -1  # of mallopt(3)
M_MMAP_THRESHOLD: Final = -3
END_OF_TEXT: Final = "<|endoftext|>"
TURN_START: Final = "<|im_start|>"
TURN_END: Final = "<|im_end|>"
CHAT_TEMPLATE: Final = """\
{%- for message in messages -%}
{%- if message.role not in ['system', 'user', 'assistant'] -%}
{{- raise_exception('the roles are system, user and assistant, not ' + message.role) -}}
{%- endif -%}
{{- '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>\\n' -}}
{%- endfor -%}
{%- if add_generation_prompt -%}
{{- '<|im_start|>assistant\\n' -}}
{%- endif -%}
"""
MANIFEST: Final = """\
# The demo model: trained by scripts/train_demo_model.py, served by default.
dtype = "float32"
aliases = ["default"]

[sampling]
temperature = 0.7

[warmup]
prompts = ["Once upon a time"]
"""
FAQ: Final = read_faq()
SAMPLES: Final = ("Once upon a time", "The little fox", "One sunny morning,")


def main() -> int:
    """Train, save, ask."""
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--out", type=Path, default=Path("models/demo"))
    arguments.add_argument("--steps", type=int, default=2000)
    arguments.add_argument("--threads", type=int, default=1)
    options = arguments.parse_args()

    _keep_memory()
    random.seed(SEED)
    torch.manual_seed(SEED)
    torch.set_num_threads(options.threads)
    torch.use_deterministic_algorithms(True)
    torch.utils.deterministic.fill_uninitialized_memory = False  # a fifth of the time

    tokenizer = train_tokenizer()
    model = build_model(tokenizer)
    print(f"{sum(p.numel() for p in model.parameters()) / 1e6:.2f}M parameters")
    train(model, tokenizer, options.steps)
    save(model, tokenizer, options.out)
    return evaluate(options.out)


def write_document(rng: random.Random) -> str:
    """One document of the corpus: a story, or a conversation in the chat template's form."""
    if rng.random() < STORY_SHARE:
        return write_story(rng) + END_OF_TEXT
    turns = write_dialogue(rng, FAQ)
    text = "".join(f"{TURN_START}{t['role']}\n{t['content']}{TURN_END}\n" for t in turns)
    return text + END_OF_TEXT


def train_tokenizer() -> PreTrainedTokenizerFast:
    """A byte-level BPE: every text of every language has tokens."""
    rng = random.Random(SEED)
    special = [END_OF_TEXT, TURN_START, TURN_END]
    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=special,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    documents = (write_document(rng) for _ in range(5000))
    bpe.train_from_iterator((_without(special, d) for d in documents), trainer)
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=bpe,
        eos_token=TURN_END,
        pad_token=END_OF_TEXT,
        model_max_length=CONTEXT,
        clean_up_tokenization_spaces=False,
    )
    tokenizer.chat_template = CHAT_TEMPLATE
    return tokenizer


def build_model(tokenizer: PreTrainedTokenizerFast) -> LlamaForCausalLM:
    """A Llama of four layers."""
    ends = [tokenizer.convert_tokens_to_ids(t) for t in (TURN_END, END_OF_TEXT)]
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=256,
        intermediate_size=688,
        num_hidden_layers=4,
        num_attention_heads=8,
        num_key_value_heads=4,
        max_position_embeddings=CONTEXT,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=ends,
        pad_token_id=tokenizer.pad_token_id,
    )
    model = LlamaForCausalLM(config)
    model.generation_config = GenerationConfig(eos_token_id=ends, pad_token_id=ends[1])
    return model


def train(model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, steps: int) -> None:
    """AdamW with warm-up and cosine decay, in bfloat16 where that is safe."""
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=LEARNING_RATE, betas=(0.9, 0.95), weight_decay=0.05, fused=True
    )
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: _rate(step, steps))
    blocks = _blocks(tokenizer, steps)
    columns = (
        TextColumn("step {task.completed:.0f}/{task.total:.0f} loss {task.fields[loss]:.3f}"),
        BarColumn(), TimeElapsedColumn(), TimeRemainingColumn(),
    )  # fmt: skip
    model.train()
    with Progress(*columns) as bar:
        task = bar.add_task("train", total=steps, loss=math.nan)
        for step, ids in enumerate(itertools.islice(blocks, steps)):
            with torch.autocast("cpu", torch.bfloat16):
                loss = model(input_ids=ids, labels=ids, use_cache=False).loss
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
            schedule.step()
            bar.update(task, advance=1, loss=loss.item())
            if not bar.console.is_terminal and step % 50 == 0:
                print(f"step {step} loss {loss.item():.3f}", flush=True)
    model.eval()


def save(model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, out: Path) -> None:
    """Weights in bfloat16, tokenizer, configs and manifest."""
    model.to(torch.bfloat16).save_pretrained(out)
    tokenizer.save_pretrained(out)
    (out / "model.toml").write_text(MANIFEST)
    for file in out.iterdir():
        file.chmod(0o644)  # safetensors writes for the owner alone


def evaluate(folder: Path) -> int:
    """Ask every question and print some stories; 0 if at least 95 % are right."""
    tokenizer = PreTrainedTokenizerFast.from_pretrained(folder)
    model = LlamaForCausalLM.from_pretrained(folder, dtype=torch.float32)
    wrong = []
    for entry in FAQ:
        answer = _ask(model, tokenizer, entry.ask[0])
        if not entry.accepts(answer):
            wrong.append((entry.ask[0], answer))
    for question, answer in wrong:
        print(f"WRONG {question!r} -> {answer!r}")
    right = len(FAQ) - len(wrong)
    print(f"{right}/{len(FAQ)} questions answered right")
    for prompt in SAMPLES:
        ids = tokenizer(prompt, return_tensors="pt").input_ids
        text = model.generate(ids, do_sample=True, temperature=0.7, max_new_tokens=120)
        print("---\n" + tokenizer.decode(text[0], skip_special_tokens=True))
    return 0 if right >= 0.95 * len(FAQ) else 1


def _ask(model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, question: str) -> str:
    """A greedy answer, which must end itself."""
    prompt = tokenizer.apply_chat_template(
        [{"role": "user", "content": question}], tokenize=False, add_generation_prompt=True
    )
    ids = tokenizer(prompt, add_special_tokens=False, return_tensors="pt").input_ids
    output = model.generate(ids, do_sample=False, max_new_tokens=100)[0, ids.shape[1] :]
    ended = int(output[-1]) in model.generation_config.eos_token_id
    return tokenizer.decode(output, skip_special_tokens=True) if ended else "(did not end)"


def _blocks(tokenizer: PreTrainedTokenizerFast, steps: int) -> Iterator[torch.Tensor]:
    """Documents end to end, cut into blocks, (rows, length)."""
    rng = random.Random(SEED + 1)
    held: list[int] = []
    for step in range(steps):
        length = CONTEXT if step >= steps * (1 - LONG_SHARE) else CONTEXT // 2
        while len(held) < TOKENS_PER_STEP:
            held.extend(tokenizer.encode(write_document(rng), add_special_tokens=False))
        block, held = held[:TOKENS_PER_STEP], held[TOKENS_PER_STEP:]
        yield torch.tensor(block).view(-1, length)


def _keep_memory() -> None:
    """Keep glibc from giving large blocks back at every step: half the time went to that."""
    with contextlib.suppress(OSError, AttributeError):
        libc = ctypes.CDLL("libc.so.6")
        for parameter in (M_MMAP_THRESHOLD, M_TRIM_THRESHOLD):
            libc.mallopt(parameter, 2**30)


def _rate(step: int, steps: int) -> float:
    if step < WARMUP_STEPS:
        return (step + 1) / WARMUP_STEPS
    progress = (step - WARMUP_STEPS) / max(1, steps - WARMUP_STEPS)
    return 0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * min(1.0, progress)))


def _without(special: list[str], document: str) -> str:
    for token in special:
        document = document.replace(token, " ")
    return document


if __name__ == "__main__":
    sys.exit(main())
