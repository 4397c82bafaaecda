"""The queue in Redis: for several boxes. Lines are entries of Redis Streams."""
