"""What is kept in the chip's memory, and in which formats.

Recipes are made of `rows`, which therefore stands alone; import the parts from their modules.
"""
