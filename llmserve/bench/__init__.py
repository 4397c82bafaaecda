"""How fast is a server: measures any OpenAI-compatible one from the client's side."""
