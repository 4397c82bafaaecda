"""The forms in which models write tool calls: how each is read, written and forced."""
