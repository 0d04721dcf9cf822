import numpy as np
import pandas as pd

from analysis.columns import reason_column, repeated_text, share, text_column


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


def test_repeated_text_holds_every_value_as_often_as_asked():
    column = repeated_text(["attention", "mlp", "attention", "", "größer"], [2, 3, 1, 2, 0])
    assert list(column) == ["attention"] * 2 + ["mlp"] * 3 + ["attention", "", ""]
    assert column.dtype == pd.Series(["a"], dtype="str").dtype
    assert len(repeated_text([], [])) == 0


def test_equal_values_of_repeated_text_share_their_memory():
    chunks = repeated_text(["a", "b", "a"], [3, 3, 2]).__arrow_array__().chunks
    assert chunks[0].buffers()[2].address == chunks[2].buffers()[2].address
