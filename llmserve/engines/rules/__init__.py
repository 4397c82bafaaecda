"""Rules that need no grammar: what may never come, what alone may come, where reasoning ends."""
