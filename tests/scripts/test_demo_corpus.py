"""The demo model's corpus and the model that came of it."""

from __future__ import annotations

import random

from demo_corpus.dialogues import read_faq, write_dialogue
from demo_corpus.stories import write_story
from server import DEMO

MAX_BYTES = 12 * 10**6


def test_every_answer_has_what_a_right_answer_must_have() -> None:
    faq = read_faq()
    assert len(faq) >= 40
    for entry in faq:
        assert entry.accepts(entry.answer), entry.ask[0]
        assert not entry.accepts("I do not know that.")


def test_no_two_questions_share_a_wording() -> None:
    wordings = [wording.lower() for entry in read_faq() for wording in entry.ask]
    assert len(wordings) == len(set(wordings))


def test_the_corpus_depends_on_the_seed_alone() -> None:
    def corpus(seed: int) -> list[object]:
        rng = random.Random(seed)
        faq = read_faq()
        return [write_story(rng) for _ in range(20)] + [write_dialogue(rng, faq) for _ in range(20)]

    assert corpus(1) == corpus(1)
    assert corpus(1) != corpus(2)


def test_stories_have_no_slot_left_open() -> None:
    rng = random.Random(3)
    for _ in range(500):
        story = write_story(rng)
        assert "{" not in story
        assert story[0].isupper() or story[0] == '"'


def test_the_committed_model_is_small() -> None:
    assert sum(file.stat().st_size for file in DEMO.iterdir()) <= MAX_BYTES
