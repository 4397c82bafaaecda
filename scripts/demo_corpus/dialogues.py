"""Conversations: questions about llmserve, requests for stories, small talk."""

from __future__ import annotations

import random
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from demo_corpus.stories import Length, write_story
from demo_corpus.words import ANIMALS

FAQ_FILE: Final = Path(__file__).with_name("faq.toml")

SYSTEM_PROMPTS: Final = (
    "You are a helpful assistant.",
    "You are the demo model of llmserve.",
    "Answer briefly.",
)
SMALL_TALK: Final = (
    (("Hello", "Hello!", "Hi", "Hi there!", "Good morning", "Hey"),
     "Hello! Ask me about llmserve, or ask me for a story."),
    (("Who are you?", "What are you?", "What is your name?", "Introduce yourself."),
     "I am the demo model of llmserve. I tell short stories and answer questions about it."),
    (("Thank you!", "Thanks", "Thanks a lot!", "Great, thank you."), "You are welcome!"),
    (("Goodbye", "Bye", "See you later!", "Good night"), "Goodbye, and happy streaming!"),
    (("How are you?", "How is it going?", "Are you well?"),
     "I am well, thank you. What would you like to know about llmserve?"),
    (("What is the capital of France?", "Who won the game?", "What is two plus two?",
      "Write a poem.", "What is the weather like?", "Translate this for me.",
      "Who is the president?", "Explain quantum physics.", "What is the meaning of life?",
      "How old is the universe?", "Write some code for me."),
     "I do not know that. I am a small model: I know short stories and llmserve."),
)  # fmt: skip
STORY_REQUESTS: Final = (
    "Tell me a {length}story.", "Write a {length}story.", "Please tell me a {length}story.",
    "Can you tell me a {length}story?", "I would like to hear a {length}story.",
)  # fmt: skip
STORY_REQUESTS_ABOUT: Final = (
    "Tell me a {length}story about a {kind}.", "Write a {length}story about a {kind}.",
    "Tell me about a {kind}.", "Please tell me a {length}story about a {kind}.",
    "Can you tell me a {length}story about a {kind}?",
)  # fmt: skip
KINDS: Final = (*ANIMALS, "boy", "girl")
LENGTHS: Final[tuple[tuple[str, Length | None], ...]] = (
    ("", None), ("", None), ("", None), ("short ", "short"), ("long ", "long"),
)  # fmt: skip
PREFIXES: Final = ("", "", "", "", "Hi, ", "Please tell me: ", "A question: ")


@dataclass(frozen=True, slots=True)
class Faq:
    """One question with its wordings, its answer, and what a right answer contains."""

    id: str
    ask: tuple[str, ...]
    answer: str
    expect: tuple[str, ...]

    def accepts(self, answer: str) -> bool:
        """Whether an answer has everything that it must have."""
        return all(part.lower() in answer.lower() for part in self.expect)


def read_faq() -> list[Faq]:
    """All questions about llmserve."""
    entries = tomllib.loads(FAQ_FILE.read_text(encoding="utf-8"))["faq"]
    return [Faq(e["id"], tuple(e["ask"]), e["answer"], tuple(e["expect"])) for e in entries]


def write_dialogue(rng: random.Random, faq: list[Faq]) -> list[dict[str, str]]:
    """A conversation of one to three turns, with a system message now and then."""
    messages = []
    if rng.random() < 0.25:
        messages.append({"role": "system", "content": rng.choice(SYSTEM_PROMPTS)})
    for _ in range(rng.choices((1, 2, 3), (70, 22, 8))[0]):
        question, answer = write_turn(rng, faq)
        messages.append({"role": "user", "content": question})
        messages.append({"role": "assistant", "content": answer})
    return messages


def write_turn(rng: random.Random, faq: list[Faq]) -> tuple[str, str]:
    """What one turn asks and what is answered: mostly a question about llmserve."""
    draw = rng.random()
    if draw < 0.78:
        entry = rng.choice(faq)
        return _reworded(rng, rng.choice(entry.ask)), entry.answer
    if draw < 0.88:
        questions, answer = rng.choice(SMALL_TALK)
        return _reworded(rng, rng.choice(questions), prefixes=("",)), answer
    word, length = rng.choice(LENGTHS)
    kind = None if draw < 0.92 else rng.choice(KINDS)
    wording = rng.choice(STORY_REQUESTS if kind is None else STORY_REQUESTS_ABOUT)
    request = wording.format(kind=kind, length=word)
    for vowel in ("owl", "otter"):
        request = request.replace(f"a {vowel}", f"an {vowel}")
    length = length if word in request else None
    return _reworded(rng, request, prefixes=("",)), write_story(rng, kind, length)


def _reworded(rng: random.Random, question: str, prefixes: tuple[str, ...] = PREFIXES) -> str:
    prefix = rng.choice(prefixes)
    if prefix:
        question = prefix + question[0].lower() + question[1:]
    if rng.random() < 0.15:
        question = question.lower()
    if rng.random() < 0.15:
        question = question.rstrip("?.!")
    return question
