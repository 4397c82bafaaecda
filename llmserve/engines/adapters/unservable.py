"""Why an adapter cannot be served."""

from __future__ import annotations


class Unservable(Exception):
    """The message names what stands in the way, after `adapter 'x' cannot be served: `."""
