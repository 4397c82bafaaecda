"""LoRA adapters: what is read of their folders, which are loaded, and how any linear layer takes
them."""
