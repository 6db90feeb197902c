"""QPyTorch's numbers as formats, and its rounding of blocks, exactly."""
