"""Evaluation of a bundle: splits, figures, plots, model card."""
