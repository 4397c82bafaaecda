"""Constrained output: from a `Constraint` to the tokens that may come next, by llguidance."""
