import math

import pytest

from analysis.exports.chart.ticks import linear_ticks, log_ticks, nice_step, number_labels, thinned
from uoe_model.errors import ConfigError


@pytest.mark.parametrize("span", [0.0013, 0.7, 1.0, 7.3, 12, 511, 40_000, 3e7])
@pytest.mark.parametrize("most", [1, 2, 5, 6])
def test_steps_are_nice_and_as_small_as_allowed(span, most):
    step = nice_step(span, most)
    power = 10 ** math.floor(math.log10(step) + 1e-9)
    assert round(step / power, 6) in (1, 2, 5)
    assert span / step <= most + 1e-6
    finer = {1: 0.5, 2: 1, 5: 2}[round(step / power)] * power
    assert span / finer > most - 1e-6


def test_ticks_are_all_multiples_inside_the_range():
    assert linear_ticks(-0.2, 1.1, 0.5) == [0, 0.5, 1]
    assert linear_ticks(10, 0, 5) == [0, 5, 10]
    assert linear_ticks(0, 0.3, 0.1) == pytest.approx([0, 0.1, 0.2, 0.3])
    assert linear_ticks(0, 10, 4, start=1) == [1, 5, 9]


def test_logarithmic_ticks_are_powers_of_ten_or_1_2_5():
    assert log_ticks(0, 4, 6) == pytest.approx([1, 10, 100, 1000, 10000])
    assert log_ticks(0, 12, 4) == pytest.approx([1, 1e3, 1e6, 1e9, 1e12])
    assert log_ticks(math.log10(0.3), math.log10(6), 6) == pytest.approx([0.5, 1, 2, 5])
    assert len(log_ticks(0.01, 0.05, 5)) >= 2


def test_numbers_have_the_decimals_of_their_step():
    assert number_labels([0, 0.25, 0.5], 0.25) == ["0.00", "0.25", "0.50"]
    assert number_labels([-1.0, 0.0], 1.0) == ["−1", "0"]
    assert number_labels([0.0, 5000.0, 10000.0], 5000) == ["0", "5,000", "10,000"]
    assert number_labels([0.01, 1, 100], 1, is_log=True) == ["0.01", "1", "100"]
    assert number_labels([1e-6, 1e3, 2e6], 1, is_log=True) == ["10⁻⁶", "10³", "2·10⁶"]


def test_formats_of_plotly_are_kept_or_refused():
    assert number_labels([0.5, -1.0], 0.5, ".0%") == ["50%", "−100%"]
    assert number_labels([12345.6], 1, ",d") == ["12,346"]
    assert number_labels([1.5], 1, ".2f") == ["1.50"]
    with pytest.raises(ConfigError, match="tickformat='~s'"):
        number_labels([1.0], 1, "~s")


def test_labels_are_thinned_evenly_until_none_overlap():
    places = [10.0 * one for one in range(20)]
    assert thinned(places, [5.0] * 20, 1.0) == list(range(20))
    assert thinned(places, [15.0] * 20, 1.0) == list(range(0, 20, 2))
    kept = thinned(places, [33.0] * 20, 1.0)
    assert kept == list(range(0, 20, 4))
    assert thinned(list(reversed(places)), [15.0] * 20, 1.0) == list(range(0, 20, 2))
    assert thinned([], [], 1.0) == []
