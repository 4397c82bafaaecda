"""The workers of one box: which there are, how busy they are, and how to reach them all. Knows no
models."""
