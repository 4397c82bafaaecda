"""What the next step computes, for whom, and in which blocks. Knows no torch."""
