"""Pairs of texts that belong together, for an embedding model: a question and its answer or the
same question in other words, a request and a story, two parts of a story."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Final

from demo_corpus.dialogues import KINDS, SMALL_TALK, STORY_REQUESTS_ABOUT, Faq, read_faq
from demo_corpus.names import invent
from demo_corpus.rewordings import Rewordings, read_rewordings
from demo_corpus.stories import write_story
from demo_corpus.tool_dialogues import round_trip
from demo_corpus.tools import draw_tool

FAQ_SHARE: Final = 0.74
TALK_SHARE: Final = 0.06
TOOL_SHARE: Final = 0.08
REQUEST_SHARE: Final = 0.06
ALPHABET: Final = "abcdefghijklmnopqrstuvwxyz"
BEFORE: Final = (
    "Hello,", "Hi there,", "Good morning.", "Excuse me,", "A quick question:", "I am new here.",
    "Sorry to bother you,", "On my laptop,", "At work,", "In our company,", "For a small project:",
    "Our team has one machine for everybody.", "My boss asks:", "We are a small lab.", "Once more:",
    "I have read the page twice.", "Maybe a silly question,", "Since yesterday", "In production,",
    "For our students,", "As an administrator,", "As a developer,", "I am writing a script.",
    "I am writing a little program.", "A friend told me about this.", "On Linux,", "Today",
    "We have three users.", "It is evening and I am tired.", "Before I go home:", "Tell me,",
)  # fmt: skip
AFTER: Final = (
    "Thank you.", "Thanks in advance.", "Please.", "It is urgent.", "I could not find it.",
    "I have no idea.", "Or not?", "Is that right?", "That would be nice.", "Please be brief.",
    "It should be simple.", "I have tried everything.", "Just asking.", "if that is possible",
    "on our box", "for everybody", "these days", "as before", "this time", "by myself", "at home",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Pair:
    """Two texts about the same thing. Those of one topic are never held against each other."""

    topic: str
    query: str
    passage: str


class Pairs:
    """Draws pairs without end."""

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng
        self._faq = read_faq()
        self._rewordings = read_rewordings()
        self._count = 0

    def draw(self) -> Pair:
        """One pair."""
        self._count += 1
        draw = self._rng.random()
        if (draw := draw - FAQ_SHARE) < 0:
            return self._question()
        if (draw := draw - TALK_SHARE) < 0:
            return self._talk()
        if (draw := draw - TOOL_SHARE) < 0:
            return self._tool()
        if draw - REQUEST_SHARE < 0:
            return self._request()
        return self._story()

    def _question(self) -> Pair:
        rng = self._rng
        entry = rng.choice(self._faq)
        rewordings = self._rewordings[entry.id]
        draw = rng.random()
        if draw < 0.4:
            passage = entry_text(entry)
        elif draw < 0.6:
            passage = entry.answer
        elif draw < 0.75:
            passage = f"{rng.choice(entry.ask)} {entry.answer}"
        else:
            passage = self._asked(entry, rewordings)
        return Pair(entry.id, self._asked(entry, rewordings), passage)

    def _asked(self, entry: Faq, rewordings: Rewordings) -> str:
        rng = self._rng
        asked = rng.choice(entry.ask) if rng.random() < 0.2 else rewordings.draw(rng)
        if rng.random() < 0.08:  # a part of the answer: half of what it says is a hint, too
            asked = _piece(rng, entry.answer)
        return disturbed(rng, asked)

    def _talk(self) -> Pair:
        rng = self._rng
        questions, answer = rng.choice(SMALL_TALK)
        passage = rng.choice((answer, rng.choice(questions)))
        return Pair(f"talk: {answer}", disturbed(rng, rng.choice(questions)), passage)

    def _tool(self) -> Pair:
        rng = self._rng
        tool = draw_tool(rng)
        question, _, _, answer = round_trip(rng, tool, tool.draw(rng))
        return Pair(f"tool {self._count}", question["content"], answer["content"])

    def _request(self) -> Pair:
        rng = self._rng
        kind = rng.choice(KINDS)
        request = rng.choice(STORY_REQUESTS_ABOUT).format(kind=kind, length="")
        query = rng.choice((request, kind, f"the {kind}", f"a {kind} and its friend"))
        return Pair(
            f"story: {kind}", query, write_story(rng, kind, rng.choice(("short", "middle")))
        )

    def _story(self) -> Pair:
        rng = self._rng
        sentences = write_story(rng).replace("\n", " ").split(". ")
        middle = rng.randint(1, len(sentences) - 1)
        halves = (". ".join(sentences[:middle]), ". ".join(sentences[middle:]))
        return Pair(f"halves {self._count}", *halves)


def entry_text(entry: Faq) -> str:
    """An entry as it is searched for: its first wording and its answer."""
    return f"{entry.ask[0]} {entry.answer}"


def disturbed(rng: random.Random, text: str) -> str:
    """With words before and after it, words too few or unknown, and typing errors, now and then."""
    words = text.split()
    if rng.random() < 0.3 and len(words) > 3:
        words = [word for word in words if rng.random() > 0.12] or words
    if rng.random() < 0.2:
        words.insert(rng.randint(0, len(words)), invent(rng).lower())
    if rng.random() < 0.2:
        index = rng.randrange(len(words))
        words[index] = _mistyped(rng, words[index])
    if rng.random() < 0.3:
        words.insert(0, rng.choice(BEFORE))
    if rng.random() < 0.2:
        words.append(rng.choice(AFTER))
    return " ".join(words)


def _mistyped(rng: random.Random, word: str) -> str:
    """One letter too few, too many, or in the wrong place."""
    if len(word) < 4:
        return word
    at = rng.randint(1, len(word) - 2)
    return rng.choice((
        word[:at] + word[at + 1 :],
        word[:at] + rng.choice(ALPHABET) + word[at:],
        word[:at] + word[at + 1] + word[at] + word[at + 2 :],
    ))  # fmt: skip


def _piece(rng: random.Random, text: str) -> str:
    words = text.split()
    start = rng.randint(0, len(words) // 2)
    return " ".join(words[start : start + rng.randint(4, 9)])
