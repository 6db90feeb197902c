"""Shampoo with its preconditioners kept in float32 or in a few bits."""

from .optimizer import Shampoo, Shampoo4bit

__all__ = ["Shampoo", "Shampoo4bit"]
