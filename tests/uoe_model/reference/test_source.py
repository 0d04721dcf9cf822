"""The released classifier behind a routing trace: filler as filler, padding as what it is, and the command."""

import numpy as np
import pytest
import torch

from analysis.utilisation import expert_load
from tests.uoe_model.reference.released import released_model, save_released
from uoe_model.errors import InputError
from uoe_model.reference.blocks import How
from uoe_model.reference.quirks import CLASSIFIER_QUIRKS, Quirks
from uoe_model.sources.reference import (
    pad_ids,
    parse_ids,
    released_effects,
    run_reference,
    untrained_routers,
)
from uoe_model.sources.reference_command import main
from uoe_model.trace import DROPPED, FILLER, KEPT
from uoe_model.trace_io import load_trace

EXAMPLES = [tuple(range(1, 12)), tuple(range(5, 19)), (3, 1, 4)]


@pytest.fixture(scope="module")
def model():
    return released_model()


def test_a_trace_tells_what_the_model_did_with_every_slot(model):
    runs = run_reference(model, EXAMPLES)
    found = model(*pad_ids(model, EXAMPLES), How(ties="lowest"))
    for row, run in enumerate(runs):
        rows = run.trace.assignments
        assert all(check.passed for check in run.trace.run.self_check)
        for site_id, site in enumerate(found.sites):
            here = rows.site_id == site_id
            used = {
                (int(unit), expert) for expert, ids in enumerate(site.slots.ids_EBL[:, row].tolist()) for unit in ids
            }
            asked = {(unit, int(e)) for unit, es in enumerate(site.requests.order_BSK[row]) for e in es}
            by_status = {
                status: set(
                    zip(
                        rows.unit_id[here & (rows.status == status)].tolist(),
                        rows.expert_id[here & (rows.status == status)].tolist(),
                        strict=True,
                    )
                )
                for status in (KEPT, DROPPED, FILLER)
            }
            assert by_status == {KEPT: used & asked, DROPPED: asked - used, FILLER: used - asked}
        assert set(rows.rank[rows.status == FILLER].tolist()) == {-1}
        np.testing.assert_allclose(run.prediction.probabilities, found.logits_BV[row].double().softmax(-1).numpy())


def test_statistics_of_requests_do_not_count_filler(model):
    [run, *_] = run_reference(model, EXAMPLES)
    rows = run.trace.assignments
    load = expert_load(run.trace)
    assert load["load"].sum() == (rows.status == KEPT).sum()


def test_padding_is_a_unit_only_where_it_is_routed(model):
    released = run_reference(model, EXAMPLES)[2].trace
    assert len(released.units) == 32
    assert released.units.is_special.sum() == 29
    assert set(released.units.label.tolist()) == {"", "padding"}
    repaired = run_reference(model, EXAMPLES, quirks=Quirks(routed_padding=False))[2].trace
    assert repaired.units.token_id.tolist() == [3, 1, 4]


def test_a_repaired_example_is_the_same_in_any_batch(model):
    quirks = Quirks().without(CLASSIFIER_QUIRKS)
    together, alone = (
        run_reference(model, EXAMPLES, quirks=quirks)[0],
        run_reference(model, EXAMPLES[:1], quirks=quirks)[0],
    )
    for name in ("unit_id", "expert_id", "status", "rank"):
        assert np.array_equal(getattr(together.trace.assignments, name), getattr(alone.trace.assignments, name))
    assert not (together.trace.assignments.status == FILLER).any()
    assert together.trace.sites.gate.tolist() == ["mean_one"] * 4


def test_effects_are_differences_to_the_released_batch(model):
    records = released_effects(model, EXAMPLES)
    assert [record["change"] for record in records] == ["as released", "alone", *CLASSIFIER_QUIRKS, "all repaired"]
    first, alone, *_ = records
    assert first["logit_change"] == first["routes_changed"] == 0
    with torch.inference_mode():
        batch = model(*pad_ids(model, EXAMPLES), How(ties="lowest")).logits_BV[0]
        single = model(*pad_ids(model, EXAMPLES[:1]), How(ties="lowest")).logits_BV[0]
    assert alone["logit_change"] == pytest.approx(float((batch - single).abs().max()), rel=1e-5)
    rows = run_reference(model, EXAMPLES)[0].trace.assignments
    used = (rows.status != DROPPED).sum()
    assert first["filler_share"] == pytest.approx((rows.status == FILLER).sum() / used)
    assert first["dropped_share"] == pytest.approx((rows.status == DROPPED).sum() / (rows.status != FILLER).sum())
    assert next(record for record in records if record["change"] == "filler")["filler_share"] == 0


def test_a_training_step_would_not_move_the_routers(model):
    without, moved = untrained_routers(model, EXAMPLES)
    assert sum("switch_gate" in name for name in without) == 12
    assert moved == len(model.parameters) - len(without)
    assert not any("W_qkv" in name for name in without)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "There are no token ids"),
        ("1 2\n3 x", "Line 2: 'x' is no token id"),
        ("1 -2", "'-2' is no token id"),
        ("1 99", r"Line 1: token ids must lie in 1\.\.19"),
        ("1 0 2", r"token ids must lie in 1\.\.19 \(0 is padding at its end\)"),
        ("1 " * 40, "Line 1 has 40 ids: the model reads at most 32"),
        ("1\n" * 33, "33 examples: at most 32"),
        ("1 " + "9" * 5000, "token ids must lie in"),
    ],
)
def test_ids_that_cannot_be_read_are_one_sentence(model, text, words):
    with pytest.raises(InputError, match=words):
        parse_ids(text, model)


def test_ids_are_read_by_line(model):
    assert parse_ids("1, 2 3 0 0\n\n 4\n", model) == ((1, 2, 3), (4,))


def test_the_command_prints_answers_and_saves_a_trace(tmp_path, capsys):
    checkpoint = save_released(tmp_path / "tiny.model")
    (tmp_path / "batch.txt").write_text("5 6 7\n8 9\n")
    command = [str(checkpoint), "--ids", "1", "2", "3", "--file", str(tmp_path / "batch.txt")]
    assert main([*command, "--trace", str(tmp_path / "trace.zip")]) == 0
    printed = capsys.readouterr().out
    assert printed.count("class ") == 3
    assert "L1.mlp: capacity 16, kept" in printed
    trace = load_trace(tmp_path / "trace.zip")
    assert (trace.assignments.status == FILLER).any()
    assert main([*command, "--off", "filler"]) == 0
    assert "filler 0 (0.0% of the slots)" in capsys.readouterr().out
    assert main([*command, "--off", "fillers"]) == 2
    assert "error: there is no quirk called fillers" in capsys.readouterr().err
    assert main([str(tmp_path / "gone.model"), "--ids", "1"]) == 2
    assert "gone.model is not there" in capsys.readouterr().err
