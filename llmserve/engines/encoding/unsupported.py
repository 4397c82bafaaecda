"""The error for a model that cannot be served as an encoder."""

from __future__ import annotations


class UnsupportedEncoder(Exception):
    """A module, a setting or a file is missing or not supported; the message names it."""
