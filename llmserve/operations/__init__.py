"""What an operator does to a running box, on every worker of it. Knows no transport."""
