"""The resumable cache: on disk the same as in memory, and a killed run resumes with the block it was at."""

import numpy as np
import pytest
import scipy.sparse

from tests.training.test_text_model import SETTINGS, TEXT, _products
from training.block_cache import BlockCache
from training.text import trainer
from training.text.cross_fitting import cross_fitted_logits, fold_numbers
from training.text.sparse_network import NetworkCheckpoint
from training.text.tokenizer import train_tokenizer
from training.text.trainer import LabelledTexts, TextFitter


class Killed(Exception):
    """In place of a kill -9 within one process."""


def matrix(rows=50, columns=30):
    return scipy.sparse.random(rows, columns, 0.2, "csr", np.float32, random_state=0)


@pytest.mark.parametrize("killed_at", [0, 3, 7])
def test_a_sparse_matrix_goes_on_after_a_kill(tmp_path, killed_at):
    whole, asked = matrix(), []

    def make(start, stop, fail=None):
        asked.append(start)
        if start == fail:
            raise Killed
        return whole[start:stop]

    with pytest.raises(Killed):
        BlockCache(tmp_path).sparse("rows", whole.shape, lambda *part: make(*part, fail=7 * killed_at), 7)
    # The kill came between the rows and the note: what the note does not know is written again.
    for part in ("columns", "values", "lengths"):
        with (tmp_path / f"rows.{part}").open("ab") as stream:
            stream.write(b"12345678" * 3)
    asked.clear()
    found = BlockCache(tmp_path).sparse("rows", whole.shape, make, 7)
    assert asked == list(range(7 * killed_at, 50, 7))
    np.testing.assert_array_equal(found.toarray(), whole.toarray())
    np.testing.assert_array_equal(found[[3, 49, 3]].toarray(), whole[[3, 49, 3]].toarray())
    again = BlockCache(tmp_path).sparse("rows", whole.shape, lambda *part: pytest.fail("made again"), 7)
    np.testing.assert_array_equal((again @ np.ones(30)), whole @ np.ones(30))


def test_an_array_goes_on_after_a_kill(tmp_path):
    def make(start, stop, fail=None):
        if start == fail:
            raise Killed
        return np.arange(start, stop)[:, None] * np.ones(3)

    with pytest.raises(Killed):
        BlockCache(tmp_path).array("a", (10, 3), np.float32, lambda *part: make(*part, fail=8), 4)
    steps = []
    found = BlockCache(tmp_path).array("a", (10, 3), np.float32, make, 4, lambda *step: steps.append(step))
    assert steps == [(10, 10)]
    in_memory = BlockCache(None).array("a", (10, 3), np.float32, make, 4)
    np.testing.assert_array_equal(found, in_memory)


def test_saved_results_are_whole_or_not_there(tmp_path):
    """Another key has another folder; a torn file is no result; without a folder nothing is saved."""
    cache, values = BlockCache(tmp_path, "key", {"seed": 0}), np.arange(6).reshape(2, 3)
    assert cache.load("a") is None
    cache.save("a", {"values": values}, {"passes": 2})
    arrays, facts = BlockCache(tmp_path, "key", {"seed": 0}).load("a")
    np.testing.assert_array_equal(arrays["values"], values)
    assert facts == {"passes": 2} and BlockCache(tmp_path, "key", {"seed": 1}).load("a") is None
    file = cache.folder / "a.npz"
    file.write_bytes(file.read_bytes()[:-40])
    assert cache.load("a") is None
    cache.save("a", {"values": values})
    cache.remove("a")
    assert cache.load("a") is None and list(cache.folder.iterdir()) == []
    nowhere = BlockCache(None, "key")
    nowhere.save("a", {"values": values})
    assert nowhere.load("a") is None


def test_arrays_that_are_made_together_resume_together(tmp_path):
    def make(start, stop, fail=None):
        if start == fail:
            raise Killed
        rows = np.arange(start, stop)
        return {"one": rows[:, None] * np.ones(2), "two": rows % 2 == 0}

    wanted = {"one": ((9, 2), np.float32), "two": ((9,), bool)}
    with pytest.raises(Killed):
        BlockCache(tmp_path).arrays(wanted, lambda *part: make(*part, fail=6), 3)
    asked = []
    found = BlockCache(tmp_path).arrays(wanted, lambda *part: asked.append(part) or make(*part), 3)
    assert asked == [(6, 9)]
    for name, values in make(0, 9).items():
        np.testing.assert_array_equal(found[name], values)


def fitter(folder=None):
    products, category_index = _products(60, 1)
    tokenizer = train_tokenizer([each.designation for each in products], SETTINGS)
    texts = LabelledTexts(products, category_index, np.ones(60))
    return TextFitter(texts, tokenizer, TEXT, SETTINGS, categories=3, folder=folder)


def test_a_text_fit_on_disk_goes_on_after_a_kill_and_is_the_one_in_memory(tmp_path, monkeypatch):
    """Killed in the second teacher and in the student: the end is the same to the last bit."""
    rows, none = np.arange(60), np.zeros(0, int)
    expected = fitter().fit(rows, none)
    plain = NetworkCheckpoint.save
    for network, epoch in (("network_2", 11), ("network_0", 4)):

        def killed(self, fitted, order, passes, loss, network=network, epoch=epoch):
            plain(self, fitted, order, passes, loss)
            if self.name == network and passes == epoch:
                raise Killed

        with monkeypatch.context() as patch:
            patch.setattr(NetworkCheckpoint, "save", killed)
            with pytest.raises(Killed):
                fitter(tmp_path).fit(rows, none)
    begun = []
    restore = NetworkCheckpoint.restore

    def restored(self, *given):
        passes, loss = restore(self, *given)
        begun.append((self.name, passes))
        return passes, loss

    monkeypatch.setattr(NetworkCheckpoint, "restore", restored)
    found = fitter(tmp_path).fit(rows, none)
    # The teachers' logits are there already.
    assert begun == [("network_0", 4)]
    for name in ("table", "head", "bias"):
        np.testing.assert_array_equal(getattr(found, name), getattr(expected, name))


def test_a_text_fit_that_is_killed_after_its_last_pass_still_tells_of_it(tmp_path, monkeypatch):
    rows, measured = np.arange(50), np.arange(50, 60)
    told, again = [], []
    expected = fitter().fit(rows, measured, told.append)
    plain = NetworkCheckpoint.save

    def killed(self, fitted, order, passes, loss):
        plain(self, fitted, order, passes, loss)
        if self.name == "network_0" and passes == SETTINGS.epochs:
            raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(NetworkCheckpoint, "save", killed)
        with pytest.raises(Killed):
            fitter(tmp_path).fit(rows, measured)
    found = fitter(tmp_path).fit(rows, measured, again.append)
    assert again == told[-1:] and told[-1].epoch == told[-1].epochs
    np.testing.assert_array_equal(found.table, expected.table)


def test_folds_that_are_answered_are_not_fitted_again(tmp_path, monkeypatch):
    gold, fold = np.ones(60, bool), fold_numbers(np.arange(60), np.ones(60, bool), 2, 0)
    expected = cross_fitted_logits(fitter(), fold, gold)
    np.testing.assert_array_equal(cross_fitted_logits(fitter(tmp_path), fold, gold), expected)
    monkeypatch.setattr(trainer, "fit_network", lambda *given, **named: pytest.fail("fitted again"))
    np.testing.assert_array_equal(cross_fitted_logits(fitter(tmp_path), fold, gold), expected)
