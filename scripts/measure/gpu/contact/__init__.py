"""The first minutes on a GPU: what holds there, and what things cost."""
