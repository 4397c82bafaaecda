"""The parser of models whose text is the answer."""

from __future__ import annotations

from llmserve.domain import Delta, TokenLogprobs
from llmserve.text.output import IdentityParser


def test_every_delta_comes_out_as_it_went_in() -> None:
    parser = IdentityParser()
    deltas = [Delta("<tool_call>", (1,)), Delta("", (2,), (TokenLogprobs(2, -1.0),))]
    assert [parsed for delta in deltas for parsed in parser.feed(delta)] == deltas
    assert list(parser.flush()) == []
