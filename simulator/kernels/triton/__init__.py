"""The dot units and the vector unit in Triton, one file a family beside the numba kernels.

Each computes the bits of its numba twin, and of the same exact reference. Nothing imports them
before a tensor on a CUDA device is met.
"""
