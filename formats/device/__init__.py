"""The conversions in torch's own integer operations, for tensors off the CPU."""
