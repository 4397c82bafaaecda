"""The key string."""

from __future__ import annotations

import re

import pytest

from llmserve.admission import credential as credentials
from llmserve.admission.credential import digest, new_credential, public_id


@pytest.mark.parametrize("text", ["", "llms", "llms-", "llms-abc", "sk-abcdef01-x", "LLMS-a-b"])
def test_a_key_that_is_not_ours_has_no_id(text: str) -> None:
    assert public_id(text) is None


def test_an_id_that_is_taken_is_not_given_again(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn = iter(["aaaaaaaa", "bbbbbbbb"])
    monkeypatch.setattr(credentials.secrets, "token_hex", lambda _: next(drawn))
    assert new_credential({"aaaaaaaa"})[0] == "bbbbbbbb"


def test_a_key_has_a_public_id_and_a_secret_of_256_bits() -> None:
    made = [new_credential() for _ in range(200)]
    for key_id, key in made:
        assert re.fullmatch(r"llms-[0-9a-f]{8}-[\w-]{43}", key)
        assert public_id(key) == key_id, "a secret may have hyphens of its own"
    assert len({digest(key) for _, key in made}) == 200
