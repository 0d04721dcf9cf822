"""Running a text or a picture: the trace is what the model decided, the prediction what it said."""

import dataclasses
import hashlib
import math
from concurrent.futures import ThreadPoolExecutor
from fractions import Fraction

import numpy as np
import pytest
import torch

from tests.traces import make_reference
from tests.uoe_model.bundles import (
    CONTEXT,
    LONG_TEXT,
    assert_checks_pass,
    assert_comes_back,
    assert_rows,
    examples_of_text,
    image_bundle,
    picture,
    rows_of,
    run_alone,
    text_bundle,
    tokenizer,
)
from tests.uoe_model.models import causal_router
from uoe_model.errors import CheckpointError, ConfigError, DeviceError, InputError
from uoe_model.result import RunResult, TextInput, TextPrediction
from uoe_model.router import RoutingOverrides
from uoe_model.run import run_image_on, run_text_on
from uoe_model.trace import DROPPED

SHORT_TEXT = "The lazy 漢字 fox."


def patched(**changes: object) -> dict[str, object]:
    return {"attention_router": causal_router(**changes), "mlp_router": causal_router(**changes)}


def text_prediction(result: RunResult) -> TextPrediction:
    assert isinstance(result.prediction, TextPrediction)
    return result.prediction


# Text: routes --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", [SHORT_TEXT, LONG_TEXT], ids=["one example", "many examples"])
@pytest.mark.parametrize("patch_len", [1, 4])
def test_a_trace_of_text_is_what_the_model_decided_unit_by_unit(text, patch_len):
    bundle = text_bundle(**patched(patch_len=patch_len))
    result = run_text_on(bundle, text)
    examples = examples_of_text(text)
    assert_rows(result.trace, rows_of(run_alone(bundle, examples, None)))
    assert_checks_pass(result.trace)
    assert_comes_back(result.trace)
    assert (result.trace.assignments.status == DROPPED).any() or patch_len > 1

    units, unit = result.trace.units, 0
    patch = -1
    for example_id, ids in enumerate(examples):
        for position, token_id in enumerate(ids):
            patch += position % patch_len == 0
            found = (units.example_id[unit], units.position[unit], units.token_id[unit], units.patch_id[unit])
            assert found == (example_id, position, token_id, patch)
            assert units.is_special[unit] == (position == 0)
            unit += 1
    assert len(units) == unit
    rows = result.trace.assignments
    assert (rows.inherited == (units.position[rows.unit_id] % patch_len != 0)).all()


def test_logits_of_a_trace_are_the_models():
    bundle = text_bundle()
    trace = run_text_on(bundle, LONG_TEXT).trace
    outputs = run_alone(bundle, examples_of_text(LONG_TEXT), None)
    assert sorted(trace.router_logits) == [0, 1, 2, 3]
    for site_id, logits in trace.router_logits.items():
        expected = np.concatenate([output.decisions[site_id].logits_NE for output in outputs])
        np.testing.assert_allclose(logits, expected, rtol=1e-5, atol=1e-5)


def test_capacities_are_those_of_every_example():
    bundle = text_bundle(**patched(capacity_factor=1.1, patch_len=2))
    trace = run_text_on(bundle, LONG_TEXT).trace
    expected = []
    for site_id, router in enumerate(bundle.config.site_configs()):
        for example_id, ids in enumerate(examples_of_text(LONG_TEXT)):
            patches = math.ceil(len(ids) / 2)
            share = Fraction("1.1") * router.num_experts_per_tok * patches / router.num_experts
            expected.append((site_id, example_id, max(4, math.ceil(share))))
    table = trace.capacities
    found = zip(table.site_id.tolist(), table.example_id.tolist(), table.capacity.tolist(), strict=True)
    assert list(found) == expected


def test_units_of_text_cover_it_piece_by_piece():
    units = run_text_on(text_bundle(), LONG_TEXT).trace.units
    real = ~units.is_special
    covered = np.zeros(len(LONG_TEXT), dtype=int)
    for start, end in zip(units.char_start[real].tolist(), units.char_end[real].tolist(), strict=True):
        covered[start:end] += 1
    assert (covered >= 1).all()  # a character of several tokens is covered by each of them
    assert (units.char_start[~real] == -1).all()
    assert (units.char_end[~real] == -1).all()
    assert set(units.text[~real].tolist()) == {"<|endoftext|>"}
    whole = "".join(units.text[real].tolist())
    assert whole.replace("\ufffd", "") == "".join(char for char in LONG_TEXT if char in whole)
    assert tokenizer().decode(units.token_id[real].tolist()) == LONG_TEXT
    assert set(units.modality.tolist()) == {"text"}
    assert set(units.phase.tolist()) == {"prefill"}
    assert (units.grid_row == -1).all()
    assert np.isnan(units.box_x0).all()


@pytest.mark.parametrize(
    "overrides",
    [
        RoutingOverrides(num_experts_per_tok=3),
        RoutingOverrides(capacity_factor=None),
        RoutingOverrides(capacity_factor=0.3),
        RoutingOverrides(gate="one"),
        RoutingOverrides(gate="probability", num_experts_per_tok=1, capacity_factor=2, sites=frozenset({1, 2})),
    ],
    ids=["k", "unlimited", "tight", "gate", "some sites"],
)
def test_overrides_are_in_the_trace_as_the_model_used_them(overrides):
    bundle = text_bundle()
    result = run_text_on(bundle, LONG_TEXT, overrides=overrides)
    assert_rows(result.trace, rows_of(run_alone(bundle, examples_of_text(LONG_TEXT), overrides)))
    assert_checks_pass(result.trace)
    sites = result.trace.sites
    for site_id, router in enumerate(bundle.config.site_configs()):
        used = overrides.apply(router) if overrides.touches(site_id) else router
        assert (sites.top_k[site_id], sites.gate[site_id]) == (used.num_experts_per_tok, used.gate)
        factor = sites.capacity_factor[site_id]
        assert np.isnan(factor) if used.capacity_factor is None else factor == used.capacity_factor
    untouched = run_text_on(bundle, LONG_TEXT)
    assert_rows(untouched.trace, rows_of(run_alone(bundle, examples_of_text(LONG_TEXT), None)))


def test_another_capacity_than_the_reference_was_measured_with_is_noted():
    bundle = text_bundle()
    routers = bundle.config.site_configs()
    counts = {site: [1] * router.num_experts for site, router in enumerate(routers)}
    bundle = dataclasses.replace(bundle, reference=make_reference(counts, patches=4))
    overrides = RoutingOverrides(capacity_factor=0.3, sites=frozenset({1}))
    noted = run_text_on(bundle, SHORT_TEXT, overrides=overrides).trace.run.notes["reference_capacity_factor"]
    trained = [math.nan if router.capacity_factor is None else router.capacity_factor for router in routers]
    np.testing.assert_equal([float(word) for word in noted.split()], trained)
    for unchanged in (None, RoutingOverrides(num_experts_per_tok=1)):
        notes = run_text_on(bundle, SHORT_TEXT, overrides=unchanged).trace.run.notes
        assert "reference_capacity_factor" not in notes


@pytest.mark.parametrize("gate", ["mean_one", "probability"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_router_that_is_sure_beyond_rounding_still_makes_a_trace(gate, dtype):
    overrides = RoutingOverrides(gate=gate, replace_logits=lambda site_id, logits_ME, *_: logits_ME * 1e3)
    trace = run_text_on(text_bundle(dtype=dtype), LONG_TEXT, overrides=overrides).trace
    assert_checks_pass(trace)
    assert trace.assignments.score.min() == 0
    assert trace.assignments.gate[trace.assignments.status != DROPPED].min() > 0


def test_overrides_that_do_not_fit_are_refused():
    with pytest.raises(ConfigError, match=r"num_experts_per_tok=9 must lie in 1\.\.num_experts=4"):
        run_text_on(text_bundle(), SHORT_TEXT, overrides=RoutingOverrides(num_experts_per_tok=9))
    with pytest.raises(ConfigError, match=r"capacity_factor=0 must be a number above 0"):
        run_text_on(text_bundle(), SHORT_TEXT, overrides=RoutingOverrides(capacity_factor=0))


# Text: what the model says -------------------------------------------------------------------------------------------


def test_losses_and_guesses_equal_a_loop_over_prefixes():
    bundle = text_bundle()
    text = "The lazy dog sat on a wall, naïve 漢字 fox. Ab cd ef gh ij kl."
    result = run_text_on(bundle, text)
    units, unit = result.trace.units, 0
    losses = []
    for ids in examples_of_text(text):
        for position in range(len(ids)):
            with torch.inference_mode():
                logits = bundle.model(input_ids=torch.tensor([ids[: position + 1]])).logits[0, -1].tolist()
            total = math.log(sum(math.exp(value) for value in logits))
            best = max(range(len(logits)), key=logits.__getitem__)
            assert units.output_token_id[unit] == best
            assert units.output_probability[unit] == pytest.approx(math.exp(logits[best] - total), rel=1e-5)
            if position + 1 < len(ids):
                losses.append(total - logits[ids[position + 1]])
                assert units.loss[unit] == pytest.approx(losses[-1], rel=1e-4, abs=1e-5)
            else:
                assert np.isnan(units.loss[unit])
            unit += 1
    assert len(examples_of_text(text)) == 2
    prediction = text_prediction(result)
    assert prediction.mean_loss == pytest.approx(sum(losses) / len(losses), rel=1e-5)
    assert prediction.bits_per_byte == pytest.approx(sum(losses) / math.log(2) / len(text.encode()), rel=1e-5)
    assert prediction.continuation == ""
    first, *others = prediction.next_candidates
    assert len(others) == 9
    assert (first.token_id, first.text) == (units.output_token_id[-1], units.output_text[-1])
    assert first.probability == pytest.approx(float(units.output_probability[-1]), rel=1e-5)
    assert first.probability >= max(other.probability for other in others)


def test_a_text_of_one_token_has_one_loss():
    prediction = text_prediction(run_text_on(text_bundle(), "The"))
    assert math.isfinite(prediction.mean_loss)
    assert prediction.bits_per_byte == pytest.approx(prediction.mean_loss / math.log(2) / 3)


def test_a_run_says_what_ran():
    result = run_text_on(text_bundle(), SHORT_TEXT, name="fox.txt")
    run = result.trace.run
    assert result.input == TextInput(text=SHORT_TEXT, name="fox.txt")
    assert (run.source, run.model, run.dtype, run.device, run.backend) == ("uoe", "tiny", "float64", "cpu", "plain")
    assert run.input_digest == hashlib.sha256(SHORT_TEXT.encode()).hexdigest()
    assert run.notes["training"] == "untrained"
    assert run.library_versions["torch"] == torch.__version__
    assert set(result.timings_ms) == {"encode", "forward", "capture"}
    assert set(run.timings_ms) == {"encode", "forward"}  # a trace cannot know how long it will take to make
    assert all(value >= 0 for value in result.timings_ms.values())


# Generation ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("patch_len", [1, 4])
@pytest.mark.parametrize("text", [SHORT_TEXT, LONG_TEXT], ids=["one example", "many examples"])
def test_routes_of_a_continuation_equal_one_full_pass(text, patch_len):
    bundle = text_bundle(**patched(patch_len=patch_len))
    result = run_text_on(bundle, text, max_new_tokens=5)
    units = result.trace.units
    written = units.token_id[units.phase == "decode"].tolist()
    prompt = examples_of_text(text)
    examples = [*prompt[:-1], [*prompt[-1], *written]]
    assert written
    assert units.token_id.tolist() == [token for ids in examples for token in ids]
    assert (units.phase[-len(written) :] == "decode").all()
    outputs = run_alone(bundle, examples, None)
    assert_rows(result.trace, rows_of(outputs))
    assert_checks_pass(result.trace)
    assert_comes_back(result.trace)

    best = outputs[-1].logits[0].argmax(-1).tolist()
    assert written == best[len(prompt[-1]) - 1 : -1]
    prediction, without = text_prediction(result), text_prediction(run_text_on(bundle, text))
    assert prediction.continuation == tokenizer().decode(written)
    assert prediction.next_candidates[0].token_id == best[-1]
    assert prediction.mean_loss == pytest.approx(without.mean_loss, rel=1e-6)
    assert prediction.bits_per_byte == pytest.approx(without.bits_per_byte, rel=1e-6)


def test_overrides_hold_for_every_step_of_a_continuation():
    bundle, overrides = text_bundle(), RoutingOverrides(capacity_factor=0.3, num_experts_per_tok=3, gate="probability")
    result = run_text_on(bundle, SHORT_TEXT, max_new_tokens=4, overrides=overrides)
    ids = result.trace.units.token_id.tolist()
    assert_rows(result.trace, rows_of(run_alone(bundle, [ids], overrides)))
    assert_checks_pass(result.trace)


@pytest.mark.parametrize("room", [0, 1, 3])
def test_a_continuation_ends_with_the_context_and_says_so(room):
    ids = tokenizer()("a" * 40, add_special_tokens=False)["input_ids"][: CONTEXT - 1 - room]
    result = run_text_on(text_bundle(), tokenizer().decode(ids), max_new_tokens=10)
    assert len(result.trace.units) == CONTEXT
    assert (result.trace.units.phase == "decode").sum() == room
    assert result.trace.run.notes["continuation"].startswith(f"{room} of 10 tokens")
    if not room:
        assert text_prediction(result).continuation == ""


def test_a_continuation_ends_where_the_model_ends_the_text():
    bundle = text_bundle()
    units = run_text_on(bundle, SHORT_TEXT, max_new_tokens=5).trace.units
    written = units.token_id[units.phase == "decode"].tolist()
    end = written[-1]
    bundle.model.config.eos_token_id = end
    result = run_text_on(bundle, SHORT_TEXT, max_new_tokens=5)
    found = result.trace.units.token_id[result.trace.units.phase == "decode"].tolist()
    assert found == written[: written.index(end)]
    assert result.trace.run.notes["continuation"].startswith(f"{len(found)} of 5 tokens")
    assert text_prediction(result).next_candidates[0].token_id == end


def test_nothing_is_said_about_a_continuation_that_nobody_asked_for():
    assert "continuation" not in run_text_on(text_bundle(), SHORT_TEXT).trace.run.notes
    with pytest.raises(ConfigError, match="max_new_tokens=-1 must be 0 or more"):
        run_text_on(text_bundle(), SHORT_TEXT, max_new_tokens=-1)


# What goes wrong -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB"),
        MemoryError(),
        RuntimeError("[enforce fail at alloc_cpu.cpp:121] DefaultCPUAllocator: can't allocate memory: tried 8 bytes"),
        RuntimeError("MPS backend out of memory"),
    ],
    ids=["cuda", "host", "cpu allocator", "mps"],
)
def test_running_out_of_memory_is_one_sentence(error, monkeypatch):
    def fail(**_: object) -> None:
        raise error

    text, image = text_bundle(), image_bundle()
    with monkeypatch.context() as patch:
        patch.setattr(text.model, "forward", fail)
        patch.setattr(image.model, "forward", fail)
        for run in (lambda: run_text_on(text, SHORT_TEXT), lambda: run_image_on(image, picture())):
            with pytest.raises(DeviceError, match=r"cpu has not enough memory for this input with tiny: shorten"):
                run()
    assert_checks_pass(run_text_on(text, SHORT_TEXT).trace)


def test_other_errors_of_a_model_stay_what_they_are(monkeypatch):
    def fail(**_: object) -> None:
        raise RuntimeError("shapes cannot be multiplied")

    bundle = text_bundle()
    monkeypatch.setattr(bundle.model, "forward", fail)
    with pytest.raises(RuntimeError, match="shapes cannot be multiplied"):
        run_text_on(bundle, SHORT_TEXT)


def test_an_input_for_another_kind_of_model_is_refused():
    with pytest.raises(CheckpointError, match="tiny is no text model"):
        run_text_on(image_bundle(), SHORT_TEXT)
    with pytest.raises(CheckpointError, match="tiny is no image model"):
        run_image_on(text_bundle(), picture())


def test_bad_input_is_refused_before_the_model_runs():
    with pytest.raises(InputError, match="The text is empty"):
        run_text_on(text_bundle(), "")
    with pytest.raises(InputError):
        run_image_on(image_bundle(), b"no picture")


def test_many_visitors_share_one_model():
    bundle, pictures = text_bundle(), image_bundle()
    jobs = [
        (f"{text} {number}", overrides)
        for number in range(2)
        for text, overrides in (
            (SHORT_TEXT, None),
            (LONG_TEXT, RoutingOverrides(num_experts_per_tok=3)),
            ("fox " * 9, RoutingOverrides(capacity_factor=None, gate="one")),
        )
    ]

    def run(job: tuple[str, RoutingOverrides | None]) -> RunResult:
        return run_text_on(bundle, job[0], overrides=job[1], max_new_tokens=2)

    def look(seed: int) -> RunResult:
        return run_image_on(pictures, picture(seed=seed))

    alone = [*map(run, jobs), *map(look, range(4))]
    with ThreadPoolExecutor(6) as pool:
        together = [*pool.map(run, jobs), *pool.map(look, range(4))]
    for first, second in zip(alone, together, strict=True):
        assert first.trace.run.input_digest == second.trace.run.input_digest
        for name in ("expert_id", "unit_id", "status", "gate", "score"):
            column = getattr(first.trace.assignments, name)
            np.testing.assert_array_equal(column, getattr(second.trace.assignments, name))
        np.testing.assert_array_equal(first.trace.units.loss, second.trace.units.loss)
