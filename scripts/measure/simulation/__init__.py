"""What a cell of boxes carries, simulated with the product's own scheduling, admission and choice
of a box."""
