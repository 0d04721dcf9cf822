"""How much is computed at once; it changes nothing."""

import numpy as np
import pytest

from tests.uoe_model.bundles import LONG_TEXT, text_bundle
from uoe_model import scoring
from uoe_model.run import run_text_on
from uoe_model.scoring import examples_per_call


@pytest.mark.parametrize(
    ("lengths", "vocab_size", "expected"),
    [
        ([512, 512, 30], 8192, 4),
        ([1024], 50257, 1),
        ([512], 50257, 2),
        ([9, 4096], 128256, 1),
        ([], 100, 4),
    ],
)
def test_fewer_examples_of_a_large_vocabulary_run_together(lengths, vocab_size, expected):
    assert examples_per_call([np.zeros(length, np.int64) for length in lengths], vocab_size) == expected


def test_what_is_computed_at_once_changes_no_guess_and_no_loss(monkeypatch):
    bundle = text_bundle()
    whole = run_text_on(bundle, LONG_TEXT, max_new_tokens=2).trace
    monkeypatch.setattr(scoring, "LOGITS_AT_ONCE", 3 * bundle.config.vocab_size + 1)
    monkeypatch.setattr(scoring, "MOST_LOGITS", 1)
    parts = run_text_on(bundle, LONG_TEXT, max_new_tokens=2).trace
    assert parts.units.output_token_id.tolist() == whole.units.output_token_id.tolist()
    np.testing.assert_allclose(parts.units.loss, whole.units.loss, atol=1e-5)
    np.testing.assert_allclose(parts.units.output_probability, whole.units.output_probability, atol=1e-5)
