"""Runs that are watched: they tell how far they are and what they write, and stop when nobody waits any more."""

import gc

import pytest
import torch

from tests.uoe_model.bundles import LONG_TEXT, examples_of_text, image_bundle, picture, text_bundle
from tests.uoe_model.watching import Recorder
from uoe_model.cache import UoECache
from uoe_model.errors import Cancelled, DeviceError, UoEError
from uoe_model.generation import GenerationSettings
from uoe_model.run import run_image_on, run_text_on
from uoe_model.scoring import WINDOWS_PER_CALL
from uoe_model.trace import KEPT

TEXT = "The lazy 漢字 fox."


def test_a_long_text_reports_its_windows_and_then_its_tokens():
    watch = Recorder()
    run_text_on(text_bundle(), LONG_TEXT, max_new_tokens=3, watch=watch)
    others = len(examples_of_text(LONG_TEXT)) - 1  # the last one is read by the continuation
    assert others > WINDOWS_PER_CALL
    done = [*range(0, others, WINDOWS_PER_CALL), others]
    assert watch.reports == [
        *(("reading", number, others) for number in done),
        *(("generating", number, 3) for number in range(4)),
        ("recording", 0, 1),
        ("recording", 1, 1),
    ]


def test_a_picture_reports_its_two_stages():
    watch = Recorder()
    run_image_on(image_bundle(), picture(), watch=watch)
    assert watch.reports == [("reading", 0, 1), ("recording", 0, 1), ("recording", 1, 1)]
    assert watch.tokens == []


@pytest.mark.parametrize("seed", range(3))
def test_tokens_are_told_with_the_first_expert_that_kept_them_at_every_site(seed):
    watch, bundle = Recorder(), text_bundle(seed=seed)
    trace = run_text_on(bundle, TEXT, generation=GenerationSettings(max_new_tokens=8), watch=watch).trace
    decoded = (trace.units.phase == "decode").nonzero()[0].tolist()
    assert [text for text, _ in watch.tokens] == [trace.units.text[unit] for unit in decoded]
    rows = trace.assignments
    expected = []
    for unit in decoded:
        first = []
        for site in trace.sites.site_id.tolist():
            kept = (rows.unit_id == unit) & (rows.site_id == site) & (rows.status == KEPT)
            experts = rows.expert_id[kept][rows.rank[kept].argsort()].tolist()
            first.append(experts[0] if experts else -1)
        expected.append(tuple(first))
    assert [experts for _, experts in watch.tokens] == expected


def test_a_watch_changes_nothing_about_the_run():
    watched = run_text_on(text_bundle(), TEXT, max_new_tokens=4, watch=Recorder())
    assert watched.prediction == run_text_on(text_bundle(), TEXT, max_new_tokens=4).prediction


def test_a_run_can_be_cancelled_at_each_of_its_checks_and_leaves_nothing_behind():
    bundle = text_bundle()
    settings = GenerationSettings(max_new_tokens=4, temperature=1.0)
    before = run_text_on(bundle, LONG_TEXT, generation=settings)
    counter = Recorder()
    run_text_on(bundle, LONG_TEXT, generation=settings, watch=counter)
    assert counter.asked >= 2 + 5 + 1  # two calls for the windows, a prompt with four tokens, the trace
    weights = {name: value.clone() for name, value in bundle.model.state_dict().items()}
    for cancel_at in range(1, counter.asked + 1):
        watch = Recorder(cancel_at=cancel_at)
        with pytest.raises(Cancelled, match="start it again"):
            run_text_on(bundle, LONG_TEXT, generation=settings, watch=watch)
        assert watch.asked == cancel_at
        assert ("recording", 1, 1) not in watch.reports
    gc.collect()
    assert not [thing for thing in gc.get_objects() if type(thing) is UoECache]
    assert all(torch.equal(value, weights[name]) for name, value in bundle.model.state_dict().items())
    after = run_text_on(bundle, LONG_TEXT, generation=settings)
    assert after.trace.units.token_id.tolist() == before.trace.units.token_id.tolist()
    assert not torch.is_inference_mode_enabled()


def test_a_picture_can_be_cancelled_before_and_after_the_model():
    for cancel_at in (1, 2):
        with pytest.raises(Cancelled):
            run_image_on(image_bundle(), picture(), watch=Recorder(cancel_at=cancel_at))
    assert issubclass(Cancelled, UoEError)


@pytest.mark.parametrize("where", ["uoe_model.run.build_trace", "uoe_model.run.to_host", "uoe_model.run.text_units"])
def test_running_out_of_memory_while_the_trace_is_made_is_one_sentence(where, monkeypatch):
    def fail(*_: object, **__: object) -> None:
        raise MemoryError("Unable to allocate 9.3 GiB for an array")

    runs = [lambda: run_text_on(text_bundle(), TEXT), lambda: run_image_on(image_bundle(), picture())]
    if where.endswith("text_units"):
        runs.pop()
    if where.endswith("to_host"):
        runs.pop(0)
    with monkeypatch.context() as patch:
        patch.setattr(where, fail)
        for run in runs:
            with pytest.raises(DeviceError, match="cpu has not enough memory for this input with tiny: shorten"):
                run()
