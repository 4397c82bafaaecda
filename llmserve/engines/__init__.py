"""How are tokens made."""
