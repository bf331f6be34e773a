"""Training, evaluation and publishing: from a catalog to a bundle to a hub. Never imported by serving code."""
