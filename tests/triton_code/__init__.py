"""The Triton kernels compiled for GPUs that are not there, and their machine code read."""
