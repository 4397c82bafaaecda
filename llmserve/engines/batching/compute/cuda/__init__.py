"""Attention and CUDA graphs for NVIDIA GPUs. Imports triton; nothing outside needs it."""
