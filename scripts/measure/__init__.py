"""What the server, the engine and the machine can do, measured."""
