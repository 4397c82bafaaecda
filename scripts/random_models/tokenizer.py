"""A small byte-level BPE tokenizer with ChatML, grown with made-up words to any vocabulary size.

Knows nothing of models. Ids 0-2 are the special tokens; training on the same corpus is repeatable.
"""

import json
from collections.abc import Iterator
from functools import cache
from itertools import product
from pathlib import Path

from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

END_OF_TEXT = "<|endoftext|>"
TURN_START = "<|im_start|>"
TURN_END = "<|im_end|>"
SPECIAL_TOKENS = (END_OF_TEXT, TURN_START, TURN_END)

TRAINED_VOCAB_SIZE = 1536

CHATML = (
    "{% for message in messages %}"
    "<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>\n"
    "{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)

_CORPUS = Path(__file__).with_name("corpus.txt")
# transformers loads every qwen2 folder as a Qwen2Tokenizer, which splits by this pattern whatever
# tokenizer.json says; using it for all makes the families agree on every prompt's tokens.
_WORDS = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)
_SPACE = "Ġ"  # what byte-level BPE writes for a space


def build_tokenizer(vocab_size: int, max_length: int) -> PreTrainedTokenizerFast:
    """Make a tokenizer with exactly `vocab_size` entries, each of which decodes to text.

    Args:
        vocab_size: number of ids, at least `TRAINED_VOCAB_SIZE`.
        max_length: longest sequence, in tokens, that the model behind it takes.

    Raises:
        ValueError: if `vocab_size` cannot hold the trained vocabulary.
    """
    if vocab_size < TRAINED_VOCAB_SIZE:
        raise ValueError(
            f"vocab_size is {vocab_size}, the trained vocabulary has {TRAINED_VOCAB_SIZE} entries; "
            "ask for at least as many"
        )
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer.from_str(_padded(_trained(), vocab_size)),
        bos_token=TURN_START,
        eos_token=TURN_END,
        pad_token=END_OF_TEXT,
        model_max_length=max_length,
        clean_up_tokenization_spaces=False,
    )
    tokenizer.chat_template = CHATML
    return tokenizer


@cache
def _trained() -> str:
    """Train on the corpus and return the tokenizer as JSON."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(_WORDS), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=TRAINED_VOCAB_SIZE,
        min_frequency=1,
        special_tokens=list(SPECIAL_TOKENS),
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator([_CORPUS.read_text(encoding="utf-8")], trainer)
    return tokenizer.to_str()


def _padded(trained: str, vocab_size: int) -> str:
    """Fill the vocabulary of a tokenizer's JSON with made-up words up to `vocab_size`."""
    tokenizer = json.loads(trained)
    vocab = tokenizer["model"]["vocab"]
    words = _made_up_words()
    while len(vocab) < vocab_size:
        vocab.setdefault(_SPACE + next(words), len(vocab))
    # No merge leads to a made-up word; this lets the encoder find it as a whole.
    tokenizer["model"]["ignore_merges"] = True
    return json.dumps(tokenizer, ensure_ascii=False)


def _made_up_words() -> Iterator[str]:
    """Yield pronounceable words, shortest first: 10,000 of two syllables, then of three."""
    syllables = ["".join(pair) for pair in product("bcdfghjklmnprstvwxyz", "aeiou")]
    for length in (2, 3):
        for word in product(syllables, repeat=length):
            yield "".join(word)
