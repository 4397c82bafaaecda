"""API keys."""

from __future__ import annotations

import pytest

from llmserve.admission.keys import KeyRing
from llmserve.errors import Unauthorized


@pytest.mark.parametrize("credential", [None, "", "wrong", "key-on", "key-one ", "\ud800"])
def test_anything_but_a_key_is_refused(credential: str | None) -> None:
    with pytest.raises(Unauthorized) as refused:
        KeyRing(["key-one", "key-two"]).identify(credential)
    assert not credential or credential not in refused.value.message


def test_a_key_opens_and_names_its_owner_by_place() -> None:
    ring = KeyRing(["key-one", "key-two"])
    assert ring.identify("key-one") == ring.identify("key-one")
    assert ring.identify("key-two").name == "key-2"


def test_without_keys_the_door_stands_open() -> None:
    assert KeyRing().identify(None).name == "anonymous"


def test_a_refusal_is_a_401_that_says_how_to_send_a_key() -> None:
    with pytest.raises(Unauthorized, match="Authorization: Bearer") as refused:
        KeyRing(["key-one"]).identify(None)
    assert (refused.value.status, refused.value.code) == (401, "invalid_api_key")


@pytest.mark.parametrize("key", ["schlüssel", "密钥", "k" * 10_000, " spaced "])
def test_any_text_can_be_a_key(key: str) -> None:
    ring = KeyRing(iter(["other", key]))
    assert ring.identify(key).name == "key-2"
    assert ring.identify(key).name == "key-2", "an iterator of keys is read once"
    with pytest.raises(Unauthorized):
        ring.identify(key[:-1])


def test_neither_the_ring_nor_the_caller_holds_the_key_itself() -> None:
    ring = KeyRing(["my-secret"])
    assert "my-secret" not in repr(vars(ring))
    assert "my-secret" not in repr(ring.identify("my-secret"))
