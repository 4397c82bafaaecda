"""Random models: true architectures, made-up weights, a small real tokenizer."""
