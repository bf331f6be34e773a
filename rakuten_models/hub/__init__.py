"""Moves folders to and from a model hub; knows no models."""
