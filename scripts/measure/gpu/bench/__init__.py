"""Decode on a GPU against the limit that its memory bandwidth sets."""
