"""How it looks over gRPC. Knows nothing of HTTP; `beside` is the door."""
