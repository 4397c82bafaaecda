"""What models with recurrent states gain by batching, and what a plain Llama pays for it."""
