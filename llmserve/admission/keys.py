"""API keys: is this caller one of ours? Knows no HTTP; a transport hands it the credential."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Iterable

from llmserve.domain import Caller
from llmserve.errors import Unauthorized


class KeyRing:
    """The keys that open the door; with none configured it stands open."""

    def __init__(self, keys: Iterable[str] = ()) -> None:
        self._digests = tuple(hashlib.sha256(key.encode()).digest() for key in keys)

    def identify(self, credential: str | None) -> Caller:
        """Who presents this credential; compared in constant time.

        Raises:
            Unauthorized: keys are configured and this is none of them.
        """
        if not self._digests:
            return Caller()
        if credential is None:
            raise Unauthorized("no API key; send it as `Authorization: Bearer YOUR_KEY`")
        # Whatever a header held, it hashes to something.
        digest = hashlib.sha256(credential.encode(errors="surrogatepass")).digest()
        matches = [hmac.compare_digest(digest, known) for known in self._digests]
        if not any(matches):
            raise Unauthorized("this API key is not valid; check it or ask the operator for one")
        return Caller(name=f"key-{matches.index(True) + 1}")
