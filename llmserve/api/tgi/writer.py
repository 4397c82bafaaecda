"""How a generation looks as an answer of TGI's routes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Final, NamedTuple

from llmserve.api.sse import data, queued_comment
from llmserve.api.tgi.body import StreamBody
from llmserve.api.tgi.error import tgi_error
from llmserve.api.token_logprobs import LEAST
from llmserve.domain import (
    Delta,
    Event,
    Failed,
    Finish,
    FinishReason,
    Queued,
    TokenLogprobs,
    Usage,
)
from llmserve.service import Answer, Generation

CUT_SHORT: Final = frozenset({FinishReason.LENGTH, FinishReason.TIMEOUT})


NO_TOKEN: Final = {"id": 0, "text": "", "logprob": None, "special": True}
"""In the only event of an answer without tokens; one at its deadline, say."""


class _Piece(NamedTuple):
    """A token of a stream, and the text that came with it."""

    token: TokenLogprobs
    text: str


class TGIWriter:
    """Writes the answer to one text.

    A stream has an event for each token. The last one also has the whole text, so that each token
    is told when it is known whether another follows.
    """

    def __init__(self, generation: Generation, body: StreamBody) -> None:
        self._generation = generation
        self._parameters = body.parameters
        self._text = [body.echoed]
        self._held: _Piece | None = None
        self._index = 0

    def frames(self, index: int, event: Event) -> Iterator[bytes]:
        """The token before the last one of a delta, and those before it; at the end the last."""
        match event:
            case Delta():
                yield from self._told(event)
            case Queued():
                yield queued_comment(event)
            case Finish():
                yield self._last(event)
            case Failed(error, _):
                if self._held is not None:
                    yield self._event(self._held)
                yield data(tgi_error(error))

    def end(self, usages: Sequence[Usage]) -> Iterator[bytes]:
        """Nothing: the terminal event was the last one."""
        return iter(())

    def whole(self, answers: Sequence[Answer]) -> list[dict[str, Any]]:
        """A list of one, as its clients want it of `/`."""
        [answer] = answers
        body: dict[str, Any] = {"generated_text": "".join(self._text) + answer.text}
        if self._parameters.details:
            body["details"] = self._details(answer)
        return [body]

    def _told(self, delta: Delta) -> Iterator[bytes]:
        """A slow reader's delta has several tokens, of which the last has the text."""
        self._text.append(delta.text)
        for number, token in enumerate(delta.logprobs, 1):
            if self._held is not None:
                yield self._event(self._held)
            is_last = number == len(delta.logprobs)
            self._held = _Piece(token, delta.text if is_last else "")
        if not delta.logprobs and delta.text and self._held is not None:
            # Text that was held back until the end: no token of its own.
            self._held = self._held._replace(text=self._held.text + delta.text)

    def _event(self, piece: _Piece | None, finish: Finish | None = None) -> bytes:
        self._index += 1
        event: dict[str, Any] = {"index": self._index, "token": NO_TOKEN}
        if piece is not None:
            token = self._token(piece.token.token_id, piece.token.logprob)
            event["token"] = token | {"text": piece.text}
        if self._parameters.top_n_tokens:
            event["top_tokens"] = [] if piece is None else self._top(piece.token)
        event |= {"generated_text": None, "details": None}
        if finish is not None:
            event |= {
                "generated_text": "".join(self._text),
                "details": self._ending(finish) | {"input_length": finish.usage.prompt_tokens},
            }
        return data(event)

    def _last(self, finish: Finish) -> bytes:
        piece, self._held = self._held, None
        return self._event(piece, finish)

    def _details(self, answer: Answer) -> dict[str, Any]:
        tokens = answer.logprobs or ()
        details = self._ending(answer.finish) | {
            "prefill": self._prefill(answer),
            "tokens": [self._token(token.token_id, token.logprob) for token in tokens],
        }
        if self._parameters.top_n_tokens:
            details["top_tokens"] = [self._top(token) for token in tokens]
        return details

    def _ending(self, finish: Finish) -> dict[str, Any]:
        return {
            "finish_reason": _reason(finish),
            "generated_tokens": finish.usage.completion_tokens,
            "seed": self._parameters.seed,
        }

    def _prefill(self, answer: Answer) -> list[dict[str, Any]]:
        """The prompt's tokens; nothing comes before the first one."""
        if answer.prompt_logprobs is None:
            return []
        first = self._plain(self._generation.prompt_ids[0], None)
        return [first, *(self._plain(t.token_id, t.logprob) for t in answer.prompt_logprobs)]

    def _token(self, token_id: int, logprob: float) -> dict[str, Any]:
        is_special = not self._generation.spelling(token_id).is_in_text
        return self._plain(token_id, logprob) | {"special": is_special}

    def _plain(self, token_id: int, logprob: float | None) -> dict[str, Any]:
        return {
            "id": token_id,
            "text": self._generation.spelling(token_id).text,
            "logprob": None if logprob is None else max(logprob, LEAST),
        }

    def _top(self, token: TokenLogprobs) -> list[dict[str, Any]]:
        return [self._token(*likely) for likely in token.top]


def _reason(finish: Finish) -> str:
    if finish.reason in CUT_SHORT:
        return "length"
    return "eos_token" if finish.stop_string is None else "stop_sequence"
