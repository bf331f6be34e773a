"""Catalogs of full size and clusters."""
