"""Cross-fitting: no model predicts a row that it was fitted on."""

import numpy as np

from training.block_cache import BlockCache
from training.text.cross_fitting import cross_fitted_logits, fold_numbers


def test_folds_keep_groups_together_and_share_the_gold_rows():
    random = np.random.default_rng(0)
    groups = random.integers(0, 300, 1000)
    gold = random.random(1000) < 0.6
    fold = fold_numbers(groups, gold, 5, seed=0)
    for group in range(300):
        assert len(set(fold[groups == group])) <= 1
    counts = np.bincount(fold[gold], minlength=5)
    assert counts.max() - counts.min() <= 6
    assert (fold_numbers(groups, gold, 5, seed=0) == fold).all()
    assert (fold_numbers(groups, gold, 5, seed=1) != fold).any()


class _Remembers:
    """Stands for a fitter whose network answers 1 for a row that it was fitted on, else 0."""

    def __init__(self, count: int) -> None:
        self.rows = np.arange(count)
        self.cache, self.categories = BlockCache(None), 2

    def fit(self, train, validation, name, warm_start):
        """A network that knows its training rows."""
        assert not warm_start
        self.train = train
        return self

    def logits(self, rows):
        """(n, 2): whether the row was seen, and which row it is."""
        return np.stack([np.isin(rows, self.train), rows], axis=1)


def test_every_gold_row_is_predicted_once_by_a_model_that_did_not_see_it():
    gold = np.arange(40) % 3 != 0
    groups = np.arange(40) // 2
    fold = fold_numbers(groups, gold, 4, seed=0)
    finished = []
    logits = cross_fitted_logits(_Remembers(40), fold, gold, lambda done, of: finished.append((done, of)))
    assert (logits[:, 0] == 0).all()
    assert (logits[:, 1] == np.flatnonzero(gold)).all()
    assert finished == [(1, 4), (2, 4), (3, 4), (4, 4)]
