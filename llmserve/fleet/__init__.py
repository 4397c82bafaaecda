"""The workers of one box: who they are, how busy, and how one reaches all. Knows no models."""
