"""What constrained output costs a step, and those who run beside it."""
