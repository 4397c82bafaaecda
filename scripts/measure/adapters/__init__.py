"""What adapters cost a step, and those who run beside one that is loaded."""
