"""URLs of servers: one form, whatever people write."""

from __future__ import annotations

import pytest

from llmserve.errors import ConfigurationError
from llmserve.server_url import port_of, server_url


@pytest.mark.parametrize(
    ("written", "base", "port"),
    [
        ("http://h", "http://h", 80),
        ("https://h/", "https://h", 443),
        ("http://h:1/v1", "http://h:1", 1),
        ("http://h:1/v1/", "http://h:1", 1),
        (" http://h/llm/ ", "http://h/llm", 80),
        ("https://h/llm/v1", "https://h/llm", 443),
        ("http://[::1]:8000", "http://[::1]:8000", 8000),
    ],
)
def test_the_base_is_without_slash_and_v1(written: str, base: str, port: int) -> None:
    parts = server_url(written)
    assert (parts.geturl(), port_of(parts)) == (base, port)


@pytest.mark.parametrize(
    "url",
    ["", "h:8000", "ftp://h", "/v1", "http://", "http://[::1", "http://[x]", "http://..",
     "http://h:abc", "http://h:0", "http://h:99999", "http://h/a b", "http://h\x1b", "http://h/ü",
     "http://h/?key=1", "http://h/#part", "http://" + "a" * 70],
)  # fmt: skip
def test_what_no_server_can_have_is_refused(url: str) -> None:
    with pytest.raises(ConfigurationError, match="is not a server's URL"):
        server_url(url)
