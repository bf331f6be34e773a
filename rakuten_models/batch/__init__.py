"""Scores whole catalogs in bounded memory: `score_catalog`, or `python -m rakuten_models.batch`."""

from rakuten_models.batch.evaluation import evaluate_scored
from rakuten_models.batch.pipeline import score_catalog
from rakuten_models.batch.settings import BatchSettings

__all__ = ["BatchSettings", "evaluate_scored", "score_catalog"]
