"""What the demo's embedding model learns from, how it is trained, and what lies in models/."""

from __future__ import annotations

import itertools
import random
import tomllib
from collections.abc import Iterable
from pathlib import Path

import pytest
import torch
from demo_corpus.dialogues import read_faq
from demo_corpus.pairs import Pair, Pairs
from demo_corpus.rewordings import Pattern, read_rewordings
from rephrased_questions import REPHRASED
from safetensors.torch import load_file
from server import DEMO_EMBEDDING
from train_demo_embedding import (
    CONTEXT,
    DIMENSIONS,
    EXAM_FILE,
    HIDDEN,
    build_model,
    contrastive_loss,
    embed,
    save,
    train,
    train_tokenizer,
)
from transformers import PreTrainedTokenizerFast

from llmserve.engines.encoding.files import read_files

MAX_BYTES = 4 * 10**6
FAQ = read_faq()
REWORDINGS = read_rewordings()
INDIRECT: dict[str, list[str]] = tomllib.loads(EXAM_FILE.read_text(encoding="utf-8"))
EXAM = list(itertools.chain.from_iterable(INDIRECT.values()))


@pytest.fixture(scope="module")
def tokenizer() -> PreTrainedTokenizerFast:
    """As the script trains it; models/demo-embedding may be older."""
    return train_tokenizer()


def drawn(seed: int, count: int) -> list[Pair]:
    return list(itertools.islice(iter(Pairs(random.Random(seed)).draw, None), count))


def test_a_pattern_draws_each_of_its_texts_and_knows_them() -> None:
    pattern = Pattern.parse("[Start|Run] the [big |]server[?|]")
    rng = random.Random(1)
    texts = {pattern.draw(rng) for _ in range(200)}
    assert len(texts) == 8
    assert "Run the server?" in texts
    assert "Start the big server" in texts


def test_every_question_has_rewordings_that_are_recognized() -> None:
    assert set(REWORDINGS) == {entry.id for entry in FAQ}
    rng = random.Random(2)
    for rewordings in REWORDINGS.values():
        questions = {rewordings.draw(rng) for _ in range(20)}
        assert len(questions) > 10
        assert not [q for q in questions if "[" in q or "|" in q or "{" in q]
        assert all(rewordings.has(q) for q in questions)
        assert rewordings.has(next(iter(questions)).upper().replace(" ", ""))


def test_what_the_model_is_asked_was_never_trained() -> None:
    questions = [*REPHRASED.values(), *EXAM]
    asked = {wording.lower().rstrip("?.") for entry in FAQ for wording in entry.ask}
    assert not asked & {question.lower().rstrip("?.") for question in questions}
    for rewordings in REWORDINGS.values():  # whose expressions are compiled but once
        assert not [question for question in questions if rewordings.has(question)]


def test_every_entry_is_asked_for_and_the_exam_has_other_questions() -> None:
    assert set(REPHRASED) == set(INDIRECT) == {entry.id for entry in FAQ}
    assert len(REPHRASED) == 48
    assert not set(REPHRASED.values()) & set(EXAM)


def test_the_same_seed_draws_the_same_pairs_of_all_kinds() -> None:
    pairs = drawn(3, 400)
    assert pairs == drawn(3, 400)
    assert pairs != drawn(4, 400)
    kinds = {pair.topic.partition(" ")[0].rstrip(":") for pair in pairs}
    assert {"talk", "tool", "story", "halves"} <= kinds
    assert {entry.id for entry in FAQ} <= kinds
    assert all(pair.query.strip() and pair.passage.strip() for pair in pairs)


def test_a_pair_is_not_held_against_another_of_its_topic(
    tokenizer: PreTrainedTokenizerFast,
) -> None:
    torch.manual_seed(1)
    model = build_model(tokenizer)
    first, second = Pair("a", "What is it?", "A server."), Pair("a", "How so?", "By words.")
    other = Pair("b", "A fox?", "A story.")
    assert contrastive_loss(model, tokenizer, [first, second]).item() == 0
    assert contrastive_loss(model, tokenizer, [first, other]).item() > 0


def test_batches_by_length_keep_the_order_of_the_texts(tokenizer: PreTrainedTokenizerFast) -> None:
    torch.manual_seed(1)
    model = build_model(tokenizer).eval()
    texts = ["short", "a much longer text " * 5, "", "Hello!", "über 東京"]
    alone = torch.cat([embed(model, tokenizer, [text]) for text in texts])
    for chunks in (1, 2, 5):
        assert torch.allclose(embed(model, tokenizer, texts, chunks), alone, atol=1e-5)


def test_training_is_the_same_each_time(tokenizer: PreTrainedTokenizerFast) -> None:
    runs = []
    for _ in range(2):
        random.seed(1)
        torch.manual_seed(1)
        runs.append(train(build_model(tokenizer), tokenizer, steps=3))
    assert runs[0] == runs[1]
    assert len(runs[0]) == 3


def test_what_is_saved_is_read_by_the_engine_as_it_was_trained(
    tokenizer: PreTrainedTokenizerFast, tmp_path: Path
) -> None:
    save(build_model(tokenizer), tokenizer, tmp_path)
    files = read_files(tmp_path)
    assert (files.weights, files.pooling, files.is_normalized) == (tmp_path, ("mean",), True)
    assert (files.max_tokens, files.layers, files.warnings) == (CONTEXT, (), ())
    assert {file.stat().st_mode & 0o777 for file in files_below(tmp_path)} == {0o644}
    committed = {path.relative_to(DEMO_EMBEDDING) for path in files_below(DEMO_EMBEDDING)}
    assert committed == {path.relative_to(tmp_path) for path in files_below(tmp_path)}


def test_the_model_in_models_is_small_and_whole() -> None:
    assert sum(file.stat().st_size for file in files_below(DEMO_EMBEDDING)) <= MAX_BYTES
    weights = load_file(DEMO_EMBEDDING / "model.safetensors")
    assert all(weight.isfinite().all() for weight in weights.values())
    assert max(DIMENSIONS) == HIDDEN == weights["embeddings.word_embeddings.weight"].shape[1]


def files_below(folder: Path) -> Iterable[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]
