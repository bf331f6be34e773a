"""Known confusions, counted by hand, and only for the categories they are known of."""

import numpy as np
import pytest

from rakuten_models.product import Category
from tests.support.tiny_catalog import CATEGORY_WORDS
from training.evaluation.known_confusions import RAKUTEN_GROUPS, confusion_groups, known_confusions


def categories(*codes):
    return tuple(Category(index, code, {"en": str(code)}) for index, code in enumerate(codes))


def test_shares_and_f1_done_by_hand():
    codes = (10, 40, 2705)
    #                 10: one right, two taken for 2705, one for 40; 2705: one for 10, one right, one no answer
    truth = np.array([0, 0, 0, 0, 2, 2, 2, 1])
    predicted = np.array([0, 2, 2, 1, 0, 2, -1, 0])
    (found,) = known_confusions(truth, predicted, codes, [(10, 2705)])
    assert found["prdtypecodes"] == [10, 2705] and found["rows"] == 7
    assert found["confused_share"] == pytest.approx(3 / 7), "40 for 10 is no confusion within the group"
    # 10: 1 hit of 4 true and 3 predicted; 2705: 1 hit of 3 true and 3 predicted
    assert found["f1"] == pytest.approx({"10": 2 / 7, "2705": 2 / 6})


def test_a_group_without_rows_has_no_share():
    nothing = np.zeros(0, int)
    assert known_confusions(nothing, nothing, (10, 2705), [(10, 2705)]) == [
        {"prdtypecodes": [10, 2705], "rows": 0, "confused_share": None, "f1": {"10": 0.0, "2705": 0.0}}
    ]


def test_groups_are_those_of_the_rakuten_categories_that_are_all_there():
    assert confusion_groups(categories(*CATEGORY_WORDS)) == list(RAKUTEN_GROUPS)
    assert confusion_groups(categories(10, 2705, 1280, 1281)) == [(10, 2705)], "1180 is not there"
    assert confusion_groups(categories(10, 2705, 7)) == [], "7 is no Rakuten category: another shop's codes"
