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
