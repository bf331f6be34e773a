"""A training run's stages, from a catalog to a bundle."""
