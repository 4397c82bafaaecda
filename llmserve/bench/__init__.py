"""How fast a server is: measures any OpenAI-compatible one from the client's side."""
