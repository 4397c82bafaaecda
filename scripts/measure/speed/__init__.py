"""`scripts/bench`: this machine's limits, the engine, the server and its peers, in one run."""
