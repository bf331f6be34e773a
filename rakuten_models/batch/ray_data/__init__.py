"""Batch scoring through Ray Data, on one machine or a cluster."""
