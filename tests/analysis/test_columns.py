import numpy as np

from analysis.columns import reason_column, share, text_column


def test_every_cause_that_holds_is_explained_in_the_order_given():
    first, second = np.array([True, False, True, False]), np.array([True, True, False, False])
    found = reason_column(4, [(first, "no logits"), (second, "no reference")])
    assert list(found) == ["no logits; no reference", "no reference", "no logits", ""]


def test_no_rows_and_no_causes():
    assert list(reason_column(0, [])) == []
    assert list(reason_column(2, [])) == ["", ""]
    assert list(text_column([], np.zeros(0, dtype=np.int64))) == []


def test_a_share_of_nothing_or_of_the_unknown_is_unknown():
    found = share([1, 0, 1, np.nan], [2, 0, np.nan, 1])
    np.testing.assert_equal(found, [0.5, np.nan, np.nan, np.nan])


def test_text_is_not_changed():
    assert list(text_column(["a\x00", "🙂"], np.array([1, 0, 1]))) == ["🙂", "a\x00", "🙂"]
