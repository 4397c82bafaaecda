"""What is kept of answers, for callers who come back to them."""
