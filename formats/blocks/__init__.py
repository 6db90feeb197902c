"""Formats whose elements share scales."""
