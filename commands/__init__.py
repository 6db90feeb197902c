"""The commands of `tapeout`, a file a subject; `__main__.py` gathers them."""
