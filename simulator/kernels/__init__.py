"""Fast kernels of the dot units, one file a family, each with an exact twin in `reference.py`."""
