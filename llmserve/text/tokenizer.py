"""One model's tokenizer and chat template. Knows what tokens mean, not how they are made."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from functools import cached_property, partial
from typing import Any, Final

from llmserve.domain import Conversation, Prompt
from llmserve.errors import InvalidRequest
from llmserve.text.chat_template import ChatTemplate
from llmserve.text.control_tokens import ControlTokens
from llmserve.text.description import description_of
from llmserve.text.detokenizer import Detokenizer
from llmserve.text.encoded import Encoded
from llmserve.text.length_bound import LengthBound
from llmserve.text.spelling import Spelling, spell
from llmserve.text.taint import plain

CANNOT_TELL: Final = (
    "special tokens in messages cannot be told from the chat template's own by this tokenizer; "
    "anyone who writes messages can write special tokens"
)


class Tokenizer:
    """Encodes prompts and decodes tokens; safe to use from several threads at once.

    A fast tokenizer is called through its Rust backend: the Python wrapper sets truncation on
    it at every call, which raises "Already borrowed" when two threads meet. A slow tokenizer
    is called under a lock.
    """

    def __init__(
        self,
        hf_tokenizer: Any,
        chat_template: str | None = None,
        num_embeddings: int | None = None,
        *,
        parse_special_tokens: bool = False,
    ) -> None:
        """`parse_special_tokens` lets text in messages become special tokens."""
        self._hf = hf_tokenizer
        self._backend = getattr(hf_tokenizer, "backend_tokenizer", None)
        self._lock = threading.Lock()
        self._spellings: dict[int, Spelling] = {}  # at most one for each token of the vocabulary
        self._anchor: list[int] | None = None
        # The ids for which the model has embeddings; the tokenizer may have more or fewer, or gaps.
        self.vocab_size: int = num_embeddings or len(hf_tokenizer)
        if self._backend is not None:
            # A tokenizer.json may ask for both; a prompt must never be truncated silently.
            self._backend.no_truncation()
            self._backend.no_padding()
        self._bound = LengthBound(self._backend)
        self._chat: ChatTemplate | None = None
        if chat_template or getattr(hf_tokenizer, "chat_template", None):
            self._chat = ChatTemplate(hf_tokenizer, chat_template)
        self._control: ControlTokens | None = None
        if self._chat is not None and not parse_special_tokens:
            self._control = self._control_tokens(self._chat)
        self._is_parsing = parse_special_tokens

    @property
    def hf(self) -> Any:
        """The transformers tokenizer, for code that passes it on."""
        return self._hf

    @property
    def warnings(self) -> tuple[str, ...]:
        """What an operator should know about this tokenizer and its chat template."""
        if self._chat is None:
            return ()
        if self._control is not None or self._is_parsing:
            return self._chat.problems
        return (*self._chat.problems, CANNOT_TELL)

    @property
    def is_quick(self) -> bool:
        """Whether a text becomes tokens by the tokenizers library alone: a thousand characters in
        about a tenth of a millisecond. Not so conversations, whose templates are a model's code."""
        return self._backend is not None

    @property
    def has_template(self) -> bool:
        """Whether there is a chat template."""
        return self._chat is not None

    @property
    def template_source(self) -> str:
        """The text of the chat template; empty where there is none."""
        return "" if self._chat is None else self._chat.source

    @property
    def description(self) -> dict[str, Any]:
        """Class, special tokens and chat template, for clients."""
        return description_of(self._hf, self.template_source)

    @property
    def takes_tools(self) -> bool:
        """Whether the chat template itself shows tools to the model; if there is one that does not,
        they are shown in a generic form."""
        return self._chat is not None and self._chat.shows_tools

    def encode(
        self, prompt: Prompt, max_tokens: int | None = None, *, add_special_tokens: bool = True
    ) -> list[int]:
        """The token ids alone, as `encoded`."""
        return self.encoded(prompt, max_tokens, add_special_tokens=add_special_tokens).ids

    def encoded(
        self, prompt: Prompt, max_tokens: int | None = None, *, add_special_tokens: bool = True
    ) -> Encoded:
        """A prompt's token ids, a text's with those that the tokenizer puts before every text; and
        how it opens the answer.

        Takes time in proportion to the text: call it off the event loop. A text that by its length
        alone must have more than `max_tokens` is not tokenized.

        Raises:
            InvalidRequest: ids out of range, no chat template, or the template refuses.
            TooLong: more than `max_tokens` by length alone; a returned list may still be longer.
        """
        if isinstance(prompt, str):
            self._bound.check(prompt, max_tokens)
            if not add_special_tokens:
                return Encoded(self._checked(self.encode_bare(prompt)))
            return Encoded(self._checked(self._encode_raw(prompt)))
        if isinstance(prompt, Conversation):
            chat = self._template()
            text = chat.render(prompt)
            self._bound.check(text, max_tokens)
            ids = self._encode_text(plain(text), add_special_tokens=False)
            if self._control is not None:
                ids = self._control.as_words(text, ids)
            return Encoded(self._checked(ids), chat.opening(prompt, text))
        return Encoded(self._checked(list(prompt)))

    def encode_bare(self, text: str) -> list[int]:
        """Token ids of a text without those that the tokenizer puts around every text. They may be
        outside the vocabulary of the model."""
        return self._encode_text(text, add_special_tokens=False)

    def render(self, conversation: Conversation) -> str:
        """The conversation as the model gets it, up to where its answer begins."""
        return plain(self._template().render(conversation))

    def decode(self, ids: Sequence[int], shown: frozenset[int] = frozenset()) -> str:
        """The text of the tokens; of special tokens only of those `shown`."""
        return self._decode(ids) if not shown else self._decode_but(self.special_ids - shown, ids)

    @cached_property
    def special_ids(self) -> frozenset[int]:
        """The tokens that `decode` leaves out unless they are to be shown."""
        if self._backend is not None:
            added = self._backend.get_added_tokens_decoder().items()
            return frozenset(i for i, token in added if token.special)
        return frozenset(self._hf.all_special_ids)

    def written(self, ids: Sequence[int]) -> str:
        """The text of the tokens, special ones included."""
        return self.decode(ids, self.special_ids)

    def pieces(self, ids: Sequence[int]) -> list[str]:
        """The tokens as they are in the vocabulary; empty where an id is beyond its end."""
        pieces = (self._piece(token_id) or "" for token_id in ids)
        return [p if isinstance(p, str) else p.decode(errors="replace") for p in pieces]

    def detokenizer(
        self, prompt_ids: Sequence[int], shown: frozenset[int] = frozenset()
    ) -> Detokenizer:
        """An incremental detokenizer for what follows this prompt; `shown` as in `decode`."""
        decode = partial(self._decode_but, self.special_ids - shown) if shown else self._decode
        return Detokenizer(decode, context=prompt_ids)

    def spelling(self, token_id: int) -> Spelling:
        """How a single token is written inside a text (at its beginning it may differ)."""
        known = self._spellings.get(token_id)
        if known is None:
            piece = self._piece(token_id)
            known = spell("" if piece is None else self._text_inside(token_id), piece)
            self._spellings[token_id] = known
        return known

    def check(self, ids: Sequence[int], *, param: str) -> None:
        """Check that a request's token ids are in the vocabulary.

        Raises:
            InvalidRequest: one is not; the error names `param`.
        """
        if not ids:
            return
        wrong = next((i for i in (min(ids), max(ids)) if not 0 <= i < self.vocab_size), None)
        if wrong is not None:
            raise InvalidRequest(
                f"token id {wrong} is outside the vocabulary of {self.vocab_size} tokens",
                param=param,
            )

    def _decode_but(self, hidden: frozenset[int], ids: Sequence[int]) -> str:
        return self._decode([i for i in ids if i not in hidden], skip_special_tokens=False)

    def _decode(self, ids: Sequence[int], *, skip_special_tokens: bool = True) -> str:
        if self._backend is not None:
            return str(self._backend.decode(ids, skip_special_tokens=skip_special_tokens))
        with self._lock:
            return str(
                self._hf.decode(
                    ids,
                    skip_special_tokens=skip_special_tokens,
                    clean_up_tokenization_spaces=False,
                )
            )

    def _template(self) -> ChatTemplate:
        if self._chat is None:
            raise InvalidRequest(
                "this model has no chat template; use /v1/completions or /generate, "
                "or give it one with `chat_template` in its model.toml",
                param="messages",
            )
        return self._chat

    def _control_tokens(self, chat: ChatTemplate) -> ControlTokens | None:
        """`None` if callers' special tokens cannot be told apart; then `warnings` says so."""
        if self._backend is None or not chat.marks_words:
            return None
        try:
            return ControlTokens(self._hf, chat.frame)
        # A tokenizer with parts in Python cannot be copied and may raise anything.
        except Exception:
            return None

    def _text_inside(self, token_id: int) -> str:
        """The token's text after another one: at the beginning many decoders drop a space."""
        if self._anchor is None:
            self._anchor = self._encode_text("a", add_special_tokens=False)
        before = self.decode(self._anchor)
        return self.decode([*self._anchor, token_id])[len(before) :]

    def _piece(self, token_id: int) -> str | bytes | None:
        """The token as it is in the vocabulary; `None` if the id is beyond its end."""
        if self._backend is not None:
            piece: str | None = self._backend.id_to_token(token_id)
            return piece
        try:
            with self._lock:
                named: str | bytes | None = self._hf.convert_ids_to_tokens(token_id)
        except (IndexError, KeyError):
            return None
        return named

    def _encode_raw(self, text: str) -> list[int]:
        """A raw prompt, with the tokens that the tokenizer puts before every text exactly once."""
        ids = self._encode_text(text, add_special_tokens=True)
        lead = self._lead
        is_doubled = bool(lead) and ids[len(lead) : 2 * len(lead)] == lead
        return ids[len(lead) :] if is_doubled else ids

    @cached_property
    def _lead(self) -> list[int]:
        """The tokens that the tokenizer puts before every text: usually BOS or none."""
        bare = self._encode_text("a", add_special_tokens=False)
        whole = self._encode_text("a", add_special_tokens=True)
        starts = (i for i in range(len(whole)) if whole[i : i + len(bare)] == bare)
        return whole[: next(starts, 0)]

    def _encode_text(self, text: str, *, add_special_tokens: bool) -> list[int]:
        if self._backend is not None:
            # Unlike `encode`, the batch form releases the GIL.
            batch = self._backend.encode_batch_fast([text], add_special_tokens=add_special_tokens)
            return list(batch[0].ids)
        with self._lock:
            return list(self._hf.encode(text, add_special_tokens=add_special_tokens))

    def _checked(self, ids: list[int]) -> list[int]:
        self.check(ids, param="prompt")
        return ids
