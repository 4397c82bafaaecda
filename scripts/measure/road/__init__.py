"""What the road from the socket to the engine and back costs, beside the model's own work."""
