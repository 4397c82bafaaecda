"""The encoding engine: texts to numbers, batched by tokens."""
