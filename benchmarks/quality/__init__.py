"""How right the answers are, beside other methods."""
