"""Formats that are a list of values: codebooks, posits, logarithmic numbers, odd floats."""
