from __future__ import annotations

import pytest

from llmserve.doctor import Target
from llmserve.errors import ConfigurationError


@pytest.mark.parametrize(
    "url", ["", "llm.example.org", "ftp://host", "http://", "http://[::1", "http://..",
            "http://host:99999", "http://host:0", "https://host/?key=1", "https://host/#part"],
)  # fmt: skip
def test_what_is_no_url_of_a_server_is_refused(url: str) -> None:
    with pytest.raises(ConfigurationError):
        Target.parse(url)


@pytest.mark.parametrize("key", ["two\nlines", "ключ"])
def test_a_key_that_no_header_can_carry_is_refused(key: str) -> None:
    with pytest.raises(ConfigurationError):
        Target.parse("http://host", api_key=key)


def test_a_password_in_the_url_is_refused_and_not_repeated() -> None:
    with pytest.raises(ConfigurationError) as refusal:
        Target.parse("http://me:secret@host")
    assert "secret" not in refusal.value.message


def test_a_key_is_not_shown_when_a_target_is() -> None:
    assert "secret" not in repr(Target.parse("http://host", api_key="secret"))


def test_an_openai_base_url_is_the_servers() -> None:
    assert Target.parse("http://host:8000/v1/").url == "http://host:8000"


def test_a_path_prefix_is_kept_on_the_socket_as_well() -> None:
    target = Target.parse("https://llm.example.org/house/")
    assert target.websocket_url == "wss://llm.example.org/house/ws"
    assert (target.host, target.port) == ("llm.example.org", 443)


def test_a_prompt_names_the_model_that_was_asked_for() -> None:
    assert Target.parse("http://host", model="demo").prompt(5)["model"] == "demo"
    assert "model" not in Target.parse("http://host").prompt(5)
