"""A labelled catalog as tables, and its split."""
