"""Scores whole catalogs in bounded memory: `score_catalog`, or `python -m rakuten_models.batch`."""
