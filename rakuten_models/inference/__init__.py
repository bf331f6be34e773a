"""Runs the compiled models: logits, calibrated probabilities, explanations."""
