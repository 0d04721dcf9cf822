"""The worker: one job at a time in order, progress that anybody may read, cancelling that disturbs nobody else."""

import dataclasses
import gc
import io
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from dashboard.models import ModelEntry, TrainedRouting, read_entry
from dashboard.tasks import LossRequest, RoutingChanges, RoutingValueRequest, RunRequest
from dashboard.worker import MAX_WAITING, DeviceWorker, Job
from uoe_model.bundle import Bundle, load_bundle
from uoe_model.cache import UoECache
from uoe_model.errors import Cancelled, DeviceError, InputError
from uoe_model.generation import GenerationSettings
from uoe_model.kernels.backend import choose_backend, pick_backend
from uoe_model.probes import input_routing_value, loss_changes
from uoe_model.router import RoutingOverrides
from uoe_model.run import run_image_on, run_text_on

ROUTING = TrainedRouting(num_experts=4, top_k=2, capacity_factor=1.0, gate="mean_one")
PATIENCE_S = 60


def request(name: str) -> RunRequest:
    model = ModelEntry(
        folder=Path(name),
        label=name,
        kind="text",
        num_layers=2,
        context=8,
        writes=True,
        attention=ROUTING,
        mlp=ROUTING,
        stamp=0.0,
    )
    return run_of(model, (name, "text"))


def run_of(model: ModelEntry, *inputs: tuple[str, str | bytes], tokens: int = 0, **changes: Any) -> RunRequest:
    generation = GenerationSettings(max_new_tokens=tokens)
    return RunRequest(model=model, inputs=inputs, generation=generation, changes=RoutingChanges(**changes))


def png(width: int = 20, height: int = 20, seed: int = 0) -> bytes:
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "PNG")
    return stream.getvalue()


@pytest.fixture(scope="module")
def models(models_dir: Path) -> dict[str, ModelEntry]:
    return {kind: read_entry(models_dir / f"tiny-{kind}", f"tiny-{kind}") for kind in ("text", "image")}


@pytest.fixture(scope="module")
def bundles(models: dict[str, ModelEntry]) -> dict[Path, Bundle]:
    return {model.folder: load_bundle(model.folder, "cpu") for model in models.values()}


@pytest.fixture
def worker(bundles: dict[Path, Bundle]) -> DeviceWorker:
    return DeviceWorker(lambda model: bundles[model.folder])


class Halt:
    """Stops a model before its nth call, until somebody lets it go on."""

    def __init__(self, bundle: Bundle, calls: int) -> None:
        self._forward: Callable[..., Any] = bundle.model.forward
        self._left = calls
        self.is_there, self.go_on = threading.Event(), threading.Event()

    def __call__(self, **arguments: Any) -> Any:
        self._left -= 1
        if self._left == 0:
            self.is_there.set()
            assert self.go_on.wait(PATIENCE_S)
        return self._forward(**arguments)


@pytest.fixture
def halt_at(
    models: dict[str, ModelEntry], bundles: dict[Path, Bundle], monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[[int], Halt]]:
    """Make the text model stop before a call; lets it go on in the end whatever happened."""
    made: list[Halt] = []

    def make(calls: int) -> Halt:
        bundle = bundles[models["text"].folder]
        made.append(Halt(bundle, calls))
        monkeypatch.setattr(bundle.model, "forward", made[-1])
        return made[-1]

    yield make
    for halt in made:
        halt.go_on.set()


def done(*jobs: Job[Any]) -> None:
    assert all(job.is_done(PATIENCE_S) for job in jobs)


def same_routes(one: Any, other: Any) -> bool:
    first, second = one.trace, other.trace
    names = ("site_id", "unit_id", "expert_id", "status", "gate")
    return first.units.token_id.tolist() == second.units.token_id.tolist() and all(
        np.array_equal(getattr(first.assignments, name), getattr(second.assignments, name)) for name in names
    )


# The queue -----------------------------------------------------------------------------------------------------------


def test_two_visitors_never_run_at_once_and_go_in_order() -> None:
    running, most, order = threading.Lock(), [], []
    gate = threading.Event()

    def load(model: ModelEntry) -> Bundle:
        assert running.acquire(blocking=False)
        gate.wait(PATIENCE_S)
        most.append(threading.current_thread().name)
        order.append(model.label)
        running.release()
        raise DeviceError(model.label)

    worker = DeviceWorker(load)
    jobs = [worker.submit(request(name)) for name in "abc"]
    assert [worker.ahead(job) for job in jobs] == [0, 1, 2]
    gate.set()
    done(*jobs)
    assert order == ["a", "b", "c"]
    assert len(set(most)) == 1
    assert isinstance(jobs[0].future.exception(), DeviceError)
    assert [worker.ahead(job) for job in jobs] == [0, 0, 0]


def test_what_computes_experts_is_chosen_for_the_thread_that_runs_models(
    models: dict[str, ModelEntry], bundles: dict[Path, Bundle]
) -> None:
    worker = DeviceWorker(lambda model: bundles[model.folder], prepare=lambda: choose_backend("triton"))
    for name in ("one", "two"):
        job = worker.submit(run_of(models["text"], (name, "The fox.")))
        done(job)
        (outcome,) = job.future.result().outcomes
        assert outcome.result is not None
        assert outcome.result.trace.run.backend == "triton"
    assert pick_backend(torch.device("cpu"), torch.float32) == "plain"


def test_a_full_queue_says_so_and_cancelling_makes_room() -> None:
    gate = threading.Event()

    def load(model: ModelEntry) -> Bundle:
        gate.wait(PATIENCE_S)
        raise DeviceError("done")

    worker = DeviceWorker(load)
    jobs = [worker.submit(request(str(number))) for number in range(MAX_WAITING + 1)]
    with pytest.raises(DeviceError, match="try again in a minute"):
        worker.submit(request("one too many"))
    jobs[5].cancel()
    jobs.append(worker.submit(request("now there is room")))
    assert worker.ahead(jobs[-1]) == MAX_WAITING
    gate.set()
    done(*jobs)


def test_no_memory_for_a_model_is_one_sentence() -> None:
    errors: Iterator[Exception] = iter(
        [MemoryError(), RuntimeError("can't allocate memory"), RuntimeError("shapes cannot be multiplied")]
    )

    def load(model: ModelEntry) -> Bundle:
        raise next(errors)

    worker = DeviceWorker(load)
    jobs = [worker.submit(request(name)) for name in "abc"]
    done(*jobs)
    for job in jobs[:2]:
        with pytest.raises(DeviceError, match=r"not enough memory to run [ab] with [ab]: shorten the input"):
            job.future.result()
    with pytest.raises(RuntimeError, match="shapes cannot be multiplied"):
        jobs[2].future.result()


# Results -------------------------------------------------------------------------------------------------------------


def test_several_inputs_give_results_in_order_and_a_bad_one_loses_no_other(
    worker: DeviceWorker, models: dict[str, ModelEntry], bundles: dict[Path, Bundle]
) -> None:
    model = models["image"]
    inputs = (("a.png", png(seed=1)), ("b.png", b"no picture"), ("c.png", png(8, 9, seed=2)))
    job = worker.submit(run_of(model, *inputs, num_experts_per_tok=1, gate="one"))
    outcomes = job.future.result(PATIENCE_S).outcomes
    assert [outcome.name for outcome in outcomes] == ["a.png", "b.png", "c.png"]
    assert outcomes[1].result is None
    assert "b.png" in outcomes[1].problem
    overrides = RoutingOverrides(num_experts_per_tok=1, gate="one")
    for place in (0, 2):
        assert outcomes[place].problem == ""
        alone = run_image_on(bundles[model.folder], inputs[place][1], overrides=overrides)
        assert same_routes(outcomes[place].result, alone)
    assert outcomes[0].notes == ()
    assert "c.png is only 8 x 9 pixels: the model sees it enlarged, with little in it." in outcomes[2].notes
    assert job.request.name == "3 inputs"
    assert (job.progress.input_number, job.progress.num_inputs, job.progress.input_name) == (2, 3, "c.png")


def test_the_only_input_fails_the_job_and_all_of_several_do_not(
    worker: DeviceWorker, models: dict[str, ModelEntry]
) -> None:
    one = worker.submit(run_of(models["image"], ("b.png", b"no picture")))
    two = worker.submit(run_of(models["text"], ("empty", ""), ("zero", "\0")))
    done(one, two)
    assert isinstance(one.future.exception(), InputError)
    assert [outcome.problem != "" for outcome in two.future.result().outcomes] == [True, True]


def test_losses_and_routing_values_are_those_of_the_model(
    worker: DeviceWorker, models: dict[str, ModelEntry], bundles: dict[Path, Bundle]
) -> None:
    model, text = models["text"], "Ten small experts sat on a wall."
    changes = RoutingChanges(capacity_factor=None, num_experts_per_tok=1, block="mlp").single_changes()
    asked = LossRequest(model=model, name="wall", content=text, changes=changes | {"none": RoutingChanges()})
    value = RoutingValueRequest(model=model, name="wall", content=text, draws=2, seed=3)
    picture = LossRequest(model=models["image"], name="p.png", content=png(), changes=changes)
    jobs = (worker.submit(asked), worker.submit(value), worker.submit(picture))
    done(*jobs)
    sites, bundle = frozenset({1, 3}), bundles[model.folder]
    overrides = {
        "capacity_factor": RoutingOverrides(capacity_factor=None, sites=sites),
        "num_experts_per_tok": RoutingOverrides(num_experts_per_tok=1, sites=sites),
        "none": RoutingOverrides(),
    }
    assert jobs[0].future.result() == loss_changes(bundle, text, overrides)
    assert jobs[1].future.result() == input_routing_value(bundle, text, draws=2, seed=3)
    assert set(jobs[2].future.result()) == {"capacity_factor", "num_experts_per_tok"}


def test_interleaved_visitors_get_their_own_results(
    worker: DeviceWorker, models: dict[str, ModelEntry], bundles: dict[Path, Bundle]
) -> None:
    jobs: dict[tuple[int, int], Job[Any]] = {}
    barrier = threading.Barrier(2)

    def text_of(visitor: int, number: int) -> str:
        return f"Visitor {visitor} wrote text {number}. " * (1 + number)

    def visit(visitor: int) -> None:
        for number in range(4):
            barrier.wait(PATIENCE_S)
            text = ("text", text_of(visitor, number))
            jobs[visitor, number] = worker.submit(
                run_of(models["text"], text, tokens=2 * visitor, num_experts_per_tok=1 + visitor)
            )

    visitors = [threading.Thread(target=visit, args=(visitor,)) for visitor in range(2)]
    for thread in visitors:
        thread.start()
    for thread in visitors:
        thread.join(PATIENCE_S)
    done(*jobs.values())
    assert len(jobs) == 8
    for (visitor, number), job in jobs.items():
        [outcome] = job.future.result().outcomes
        overrides = RoutingOverrides(num_experts_per_tok=1 + visitor)
        alone = run_text_on(
            bundles[models["text"].folder], text_of(visitor, number), overrides=overrides, max_new_tokens=2 * visitor
        )
        assert same_routes(outcome.result, alone)
        assert len(job.progress.tokens) == int((alone.trace.units.phase == "decode").sum())


# Progress and cancelling ---------------------------------------------------------------------------------------------


def test_progress_goes_from_waiting_through_tokens_to_the_trace(
    worker: DeviceWorker, models: dict[str, ModelEntry], halt_at: Callable[[int], Halt]
) -> None:
    halt = halt_at(4)  # the prompt and two tokens have run
    started = time.time()
    job = worker.submit(run_of(models["text"], ("text", "The quick fox"), tokens=6))
    waiting = worker.submit(run_of(models["text"], ("other", "The lazy dog"), tokens=1))
    assert halt.is_there.wait(PATIENCE_S)
    seen = job.progress
    assert (seen.stage, seen.done, seen.total) == ("generating", 2, 6)
    assert [len(token.experts) for token in seen.tokens] == [4, 4]
    assert seen.started_at is not None
    assert started <= seen.started_at <= time.time()
    assert (waiting.progress.stage, waiting.progress.started_at) == ("waiting", None)
    assert waiting.progress.input_name == "other"
    assert (worker.ahead(job), worker.ahead(waiting)) == (0, 1)
    assert not job.is_done()
    halt.go_on.set()
    done(job, waiting)
    assert seen.done == 2  # a snapshot stays as it was
    assert (job.progress.stage, job.progress.done, job.progress.total) == ("recording", 1, 1)
    units = job.future.result().outcomes[0].result.trace.units
    assert [token.text for token in job.progress.tokens] == units.text[units.phase == "decode"].tolist()


def test_a_run_cancelled_in_the_middle_of_its_text_leaves_the_next_visitor_alone(
    worker: DeviceWorker,
    models: dict[str, ModelEntry],
    bundles: dict[Path, Bundle],
    halt_at: Callable[[int], Halt],
) -> None:
    expected = run_text_on(bundles[models["text"].folder], "The lazy dog", max_new_tokens=5)
    halt = halt_at(5)
    mine = worker.submit(run_of(models["text"], ("mine", "The quick fox"), tokens=30))
    theirs = worker.submit(run_of(models["text"], ("theirs", "The lazy dog"), tokens=5))
    assert halt.is_there.wait(PATIENCE_S)
    mine.cancel()
    assert not mine.is_done()
    halt.go_on.set()
    done(mine, theirs)
    assert isinstance(mine.future.exception(), Cancelled)
    assert len(mine.progress.tokens) == 4  # of the 30: the step under way was the last
    assert same_routes(theirs.future.result().outcomes[0].result, expected)
    gc.collect()
    assert not [thing for thing in gc.get_objects() if type(thing) is UoECache]


def test_a_waiting_job_is_cancelled_at_once_and_never_runs(
    worker: DeviceWorker, models: dict[str, ModelEntry], halt_at: Callable[[int], Halt]
) -> None:
    halt = halt_at(1)
    first = worker.submit(run_of(models["text"], ("first", "The quick fox")))
    second = worker.submit(run_of(models["text"], ("second", "The lazy dog")))
    third = worker.submit(run_of(models["text"], ("third", "The wall")))
    assert halt.is_there.wait(PATIENCE_S)
    second.cancel()
    assert second.is_done()
    assert second.is_cancelled()
    assert second.future.cancelled()
    assert worker.ahead(third) == 1
    halt.go_on.set()
    done(first, third)
    assert third.future.result().outcomes[0].result is not None
    assert second.progress.stage == "waiting"
    second.cancel()  # again, and after the end: nothing happens
    first.cancel()
    assert first.future.exception() is None


def test_cancelling_several_inputs_stops_before_the_next_one(
    worker: DeviceWorker, models: dict[str, ModelEntry], halt_at: Callable[[int], Halt]
) -> None:
    halt = halt_at(2)
    job = worker.submit(run_of(models["text"], ("a", "The quick fox"), ("b", "The lazy dog"), ("c", "The wall")))
    assert halt.is_there.wait(PATIENCE_S)
    assert job.progress.input_name == "b"
    job.cancel()
    halt.go_on.set()
    done(job)
    assert isinstance(job.future.exception(), Cancelled)
    assert job.progress.input_name == "b"


def test_a_job_cancelled_while_its_model_loads_does_not_run_it(bundles: dict[Path, Bundle]) -> None:
    loading, gate = threading.Event(), threading.Event()

    def load(model: ModelEntry) -> Bundle:
        loading.set()
        assert gate.wait(PATIENCE_S)
        return next(iter(bundles.values()))

    worker = DeviceWorker(load)
    job = worker.submit(request("slow"))
    assert loading.wait(PATIENCE_S)
    assert job.progress.stage == "loading"
    job.cancel()
    gate.set()
    done(job)
    assert isinstance(job.future.exception(), Cancelled)


def test_the_error_of_a_job_does_not_keep_what_the_run_held(models: dict[str, ModelEntry]) -> None:
    class Held:
        """Stands for a tensor of the run that failed."""

    kept: list[weakref.ref[Held]] = []

    @dataclasses.dataclass
    class Failing:
        model: ModelEntry
        name: str = "failing"

        def work(self, bundle: Bundle, watch: object) -> None:
            held = Held()
            kept.append(weakref.ref(held))
            try:
                raise RuntimeError("CUDA out of memory")
            except RuntimeError as error:
                raise DeviceError("cpu has not enough memory") from error

    worker = DeviceWorker(lambda model: None)  # type: ignore[arg-type, return-value]
    job: Job[None] = worker.submit(Failing(models["text"]))
    done(job)
    assert isinstance(job.future.exception(), DeviceError)
    gc.collect()
    assert kept[0]() is None


# What a visitor changed ----------------------------------------------------------------------------------------------


def test_changes_are_described_and_reach_only_the_chosen_block() -> None:
    changes = RoutingChanges(capacity_factor=None, num_experts_per_tok=1, gate="one", block="mlp")
    assert changes.describe() == "1 experts per unit, never full, gate one (MLP only)"
    overrides = changes.overrides(num_layers=2)
    assert overrides is not None
    assert overrides.sites == frozenset({1, 3})
    assert overrides.capacity_factor is None
    assert RoutingChanges(block="mlp").overrides(num_layers=2) is None


def test_single_changes_are_the_changed_knobs_one_by_one() -> None:
    changes = RoutingChanges(capacity_factor=None, gate="one", block="attention")
    assert changes.single_changes() == {
        "capacity_factor": RoutingChanges(capacity_factor=None, block="attention"),
        "gate": RoutingChanges(gate="one", block="attention"),
    }
    assert RoutingChanges(block="mlp").single_changes() == {}
    assert RoutingChanges(capacity_factor=2.0).single_changes() == {
        "capacity_factor": RoutingChanges(capacity_factor=2.0)
    }
