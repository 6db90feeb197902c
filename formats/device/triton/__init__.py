"""Kernels in Triton, for tensors on CUDA devices; nothing imports them before one is met."""
