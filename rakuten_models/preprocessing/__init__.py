"""Products to model inputs: cleaned texts and token ids, decoded pixels. Training and serving share it."""
