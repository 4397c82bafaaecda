"""Two small tokenizers in which a character may span several tokens, one of each kind."""

from __future__ import annotations

from functools import cache

import tokenizers
from tokenizers import decoders, models, normalizers, pre_tokenizers, trainers


@cache
def trained_bpe() -> tokenizers.Tokenizer:
    """Byte-level, with merges: a token may hold the end of one character and half the next."""
    bpe = tokenizers.Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    corpus = ["the little fox", "中文分词器中国中文", "😀😁😂🚀😀😁", "naïve café ñandú"] * 20
    trainer = trainers.BpeTrainer(
        vocab_size=340, show_progress=False, initial_alphabet=pre_tokenizers.ByteLevel.alphabet()
    )
    bpe.train_from_iterator(corpus, trainer)
    return bpe


@cache
def byte_fallback() -> tokenizers.Tokenizer:
    """As in Llama 2 and Gemma: a run of byte tokens is text as a whole, or not at all."""
    words = ["<unk>", *(f"<0x{byte:02X}>" for byte in range(256)), "▁", *"abcdef"]
    vocab = {word: i for i, word in enumerate(words)}
    bpe = tokenizers.Tokenizer(models.BPE(vocab, [], byte_fallback=True, unk_token="<unk>"))
    bpe.normalizer = normalizers.Replace(" ", "▁")
    bpe.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]
    )
    return bpe
