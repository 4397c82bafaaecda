"""One step: tensors in, next tokens out. Knows no policy."""
