"""A run bundle is read as it was saved; whatever else comes is refused with one sentence."""

import io
import zipfile

import numpy as np
import pytest
import yaml

from analysis.exhibit import Exhibit, ViewOptions
from analysis.exports.bundle import MAX_MEMBERS, RECORD, is_bundle, load_bundle, save_bundle
from analysis.pool import pool_traces
from analysis.recorded_run import RecordedRun, TraceTables
from analysis.routing_value import input_routing_value_table
from analysis.selection import Selection
from tests.traces import assert_traces_equal, make_trace
from uoe_model.errors import TraceFormatError, UoEError
from uoe_model.result import (
    Candidate,
    ClassPrediction,
    EmbeddingPrediction,
    ImageInput,
    TextInput,
    TextPrediction,
)

ROUTES = "L0.attention: 0>E0,E1 1>E1 2>E0; L0.mlp: 0>E1 1>E1 2>E1!,E0"
PREDICTION = TextPrediction(
    next_candidates=(Candidate(token_id=5, text=' <b>"&', probability=0.1 + 0.2),),
    continuation="so\n it goes",
    mean_loss=float("nan"),
    bits_per_byte=1 / 3,
)
PIXELS = np.random.default_rng(0).integers(0, 256, (6, 8, 3), dtype=np.uint8)


def text_run(name: str = "a text") -> RecordedRun:
    return RecordedRun(
        name=name,
        trace=make_trace(ROUTES, num_experts=2, capacity=2),
        prediction=PREDICTION,
        input=TextInput(text="zwölf\r\n\tworte 🦊", name=name),
        settings={"generation": {"max_new_tokens": 3, "temperature": 0.5}, "changes": {"gate": None}},
        changes="capacity factor 0.5",
        notes=("It was long.",),
    )


def picture_run() -> RecordedRun:
    return RecordedRun(
        name="a picture",
        trace=make_trace(ROUTES, num_experts=2, capacity=2),
        prediction=ClassPrediction(labels=("cat", "ship"), probabilities=np.array([0.25, 0.75])),
        input=ImageInput(
            pixels=PIXELS,
            model_pixels=PIXELS[:3, :3],
            name="a picture",
            fit="crop",
            original_width=80,
            original_height=60,
        ),
    )


def saved(exhibit: Exhibit, files: dict[str, bytes] | None = None) -> bytes:
    stream = io.BytesIO()
    save_bundle(exhibit, stream, files)
    return stream.getvalue()


def loaded(data: bytes) -> Exhibit:
    return load_bundle(io.BytesIO(data))


def rewritten(data: bytes, changes: dict[str, bytes | None]) -> bytes:
    """The bundle with some members replaced, or left out for None."""
    stream = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as old, zipfile.ZipFile(stream, "w") as new:
        for name in [*old.namelist(), *(name for name in changes if name not in old.namelist())]:
            content = changes.get(name, old.read(name) if name in old.namelist() else None)
            if content is not None:
                new.writestr(name, content)
    return stream.getvalue()


def test_a_bundle_brings_everything_back():
    runs = (text_run("one"), text_run("two"))
    records = [
        {
            "model": "m",
            "replacement": "permuted",
            "block": "mlp",
            "capacity": "none",
            "loss_change": 1 / 7,
            "low": 0.1,
            "high": 0.2,
            "draws": 5,
            "reason": "",
        }
    ]
    exhibit = Exhibit(
        runs=runs,
        index=1,
        selection=Selection(site_id=1, experts=(0,), units=(2,), status="partly dropped", pinned=((0, 1),)),
        options=ViewOptions(atlas="drop_share", strip_sites="all", pooled=True),
        pool=TraceTables(pool_traces([run.trace for run in runs])),
        pinned=picture_run(),
        routing_value=input_routing_value_table(records),
    )
    found = loaded(saved(exhibit))
    assert found.index == 1
    assert (found.selection, found.options) == (exhibit.selection, exhibit.options)
    assert found.is_pooled
    for run, expected in zip(found.runs, runs, strict=True):
        assert_traces_equal(run.trace, expected.trace)
        assert run.input == expected.input
        assert (run.name, run.settings, run.changes, run.notes) == (
            expected.name,
            expected.settings,
            expected.changes,
            expected.notes,
        )
        assert repr(run.prediction) == repr(expected.prediction)
    assert found.routing_value is not None
    assert exhibit.routing_value is not None
    assert found.routing_value.equals(exhibit.routing_value)
    picture = found.pinned
    assert picture is not None
    assert isinstance(picture.input, ImageInput)
    np.testing.assert_array_equal(picture.input.pixels, PIXELS)
    assert isinstance(picture.prediction, ClassPrediction)
    assert picture.prediction.probabilities.tolist() == [0.25, 0.75]


def test_equal_runs_make_equal_files_and_extra_files_lie_beside_the_run():
    exhibit = Exhibit(runs=(text_run(),))
    assert saved(exhibit) == saved(Exhibit(runs=(text_run(),)))
    data = saved(exhibit, {"figures/uoe-atlas.svg": b"<svg/>"})
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        assert archive.read("figures/uoe-atlas.svg") == b"<svg/>"
        record = yaml.safe_load(archive.read(RECORD))
    assert record["runs"][0]["weights_sha256"] == exhibit.trace.run.weights_digest
    assert record["runs"][0]["settings"]["generation"]["temperature"] == 0.5


def test_a_bundle_is_told_from_a_trace_and_from_anything_else():
    assert is_bundle(io.BytesIO(saved(Exhibit(runs=(text_run(),)))))
    assert not is_bundle(io.BytesIO(b"PK\x03\x04 nothing"))
    assert not is_bundle(io.BytesIO(b""))


BOMB = b"a: &a [x,x,x,x]\nb: &b [*a,*a,*a,*a]\nc: &c [*b,*b,*b,*b]\nformat: *c\n"
BAD_MEMBERS: dict[str, dict[str, bytes | None]] = {
    "no record": {RECORD: None},
    "a record that is no YAML": {RECORD: b"{: ["},
    "a record of another program": {RECORD: b"format: holiday\n"},
    "a record that is a list": {RECORD: b"- 1\n"},
    "a record that makes objects": {RECORD: b"!!python/object/apply:os.system ['true']"},
    "a record that unfolds": {RECORD: BOMB},
    "a later version": {RECORD: b"format: uoe-run-bundle\nversion: 99\nruns: [{}]\n"},
    "no runs": {RECORD: b"format: uoe-run-bundle\nversion: 1\nruns: []\n"},
    "runs that are a number": {RECORD: b"format: uoe-run-bundle\nversion: 1\nruns: 7\n"},
    "more runs than files": {RECORD: b"format: uoe-run-bundle\nversion: 1\nruns: [{}, {}, {}]\n"},
    "a missing trace": {"runs/0/trace.zip": None},
    "a broken trace": {"runs/0/trace.zip": b"PK not a zip"},
    "an input that is no text": {"runs/0/input.txt": b"\xff\xfe\xfa"},
    "an empty input": {"runs/0/input.txt": b""},
    "a prediction that is no JSON": {"runs/0/prediction.json": b"{"},
    "a prediction without its fields": {"runs/0/prediction.json": b"{}"},
    "a prediction that is a list": {"runs/0/prediction.json": b"[1]"},
    "probabilities that do not sum to one": {
        "runs/0/prediction.json": b'{"labels": ["a", "b"], "probabilities": [1, 1]}'
    },
    "a picture that is none": {"runs/0/input.txt": None, "runs/0/picture.png": b"GIF89a", "runs/0/picture.json": b"{}"},
}


@pytest.mark.parametrize("changes", BAD_MEMBERS.values(), ids=list(BAD_MEMBERS))
def test_a_bad_bundle_is_one_sentence(changes: dict[str, bytes | None]):
    data = rewritten(saved(Exhibit(runs=(text_run(),))), changes)
    with pytest.raises(UoEError) as caught:
        loaded(data)
    assert str(caught.value).strip()
    assert "\n" not in str(caught.value)


def test_too_many_files_and_truncated_files_are_refused():
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for number in range(MAX_MEMBERS + 1):
            archive.writestr(f"{number}", b"")
    with pytest.raises(TraceFormatError, match="at most"):
        loaded(stream.getvalue())
    data = saved(Exhibit(runs=(text_run(),)))
    for length in (0, 10, len(data) // 2, len(data) - 3):
        with pytest.raises(TraceFormatError):
            loaded(data[:length])


def test_an_absurd_selection_in_a_record_is_no_selection():
    data = saved(Exhibit(runs=(text_run(),)))
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        record = yaml.safe_load(archive.read(RECORD))
    record |= {"selection": {"site": "99", "units": "x-999"}, "options": [1], "input": 12}
    found = loaded(rewritten(data, {RECORD: yaml.safe_dump(record).encode()}))
    assert found.selection == Selection(site_id=0)
    assert found.options == ViewOptions()
    assert found.index == 0


def test_an_embedding_comes_back_exactly():
    vector = np.array([0.25, -1.5, 3e-7], dtype=np.float32)
    run = RecordedRun(
        name="a text", trace=make_trace("L0.mlp: 0>E0", num_experts=1), prediction=EmbeddingPrediction(vector=vector)
    )
    stream = io.BytesIO()
    save_bundle(Exhibit(runs=(run,), selection=Selection(site_id=0)), stream)
    [back] = load_bundle(stream).runs
    assert isinstance(back.prediction, EmbeddingPrediction)
    assert back.prediction.vector.tolist() == vector.tolist()
