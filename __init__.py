"""Tapeout: see whether training survives a chip's arithmetic before you commit to the chip."""

__version__ = "0.1.0"
