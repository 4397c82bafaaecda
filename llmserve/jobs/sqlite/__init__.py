"""The queue in a SQLite file: for the workers of one box."""
