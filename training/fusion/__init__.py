"""The fusion model over both modalities' outputs."""
