"""The conversions of real hardware, to the bit."""
