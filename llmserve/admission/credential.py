"""The key string that we hand out, `llms-<id>-<secret>`, and what may be stored of it.

The id is public: it names the key in lists and in the key file. The secret has 256 random bits and
cannot be guessed, so a plain SHA-256 protects it as well as a slow password hash would, in a
microsecond instead of a tenth of a second per request.
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Container
from typing import Final

PREFIX: Final = "llms"
ID_BYTES: Final = 4
SECRET_BYTES: Final = 32


def new_credential(taken: Container[str] = ()) -> tuple[str, str]:
    """A fresh id that is not `taken`, and the whole key, which is stored nowhere."""
    key_id = secrets.token_hex(ID_BYTES)
    while key_id in taken:
        key_id = secrets.token_hex(ID_BYTES)
    return key_id, f"{PREFIX}-{key_id}-{secrets.token_urlsafe(SECRET_BYTES)}"


def public_id(credential: str) -> str | None:
    """The id in a key; `None` for a key that we did not make."""
    parts = credential.split("-", 2)
    return parts[1] if len(parts) == 3 and parts[0] == PREFIX else None


def digest(credential: str) -> bytes:
    """SHA-256 of the whole key. Accepts any text that a header may contain."""
    return hashlib.sha256(credential.encode(errors="surrogatepass")).digest()


def bearer(authorization: str) -> str | None:
    """The key in the value of a header `Authorization`, if it is a bearer token."""
    scheme, _, credential = authorization.partition(" ")
    return credential.strip() or None if scheme.lower() == "bearer" else None
