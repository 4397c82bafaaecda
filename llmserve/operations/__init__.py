"""What an operator does to a running box, carried out by every worker. Knows no transport."""
