"""Compiled loops of the optimizers: arithmetic on arrays, spread over threads."""
