"""The bundled examples open with something to see, and the page needs no model for them."""

import subprocess
import sys
from pathlib import Path

import pytest

from analysis.compare import compare_runs
from analysis.exhibit import Exhibit
from analysis.views import VIEWS, missing
from dashboard.showing import EXAMPLES, Showing, open_example
from uoe_model.result import ClassPrediction, ImageInput, TextInput, TextPrediction

ROOT = Path(__file__).parents[2]
HEAVY = ("torch", "transformers", "reportlab", "pypdfium2", "safetensors")
FIRST_SCREEN = f"""
import sys
from dashboard import navigation
from dashboard.showing import open_example
from analysis.exhibit import Exhibit
from analysis.views import VIEWS, missing
for kind in ("text", "picture"):
    showing = open_example(kind)
    exhibit = Exhibit(runs=showing.runs, selection=showing.selection, routing_value=showing.routing_value)
    for name, view in VIEWS.items():
        if view.figure is not None and not missing(exhibit, name):
            view.figure(exhibit, "light")
print(*sorted(name for name in {HEAVY} if name in sys.modules))
"""


@pytest.fixture(scope="module", params=list(EXAMPLES))
def showing(request: pytest.FixtureRequest) -> Showing:
    return open_example(request.param)


def test_the_page_and_an_example_are_drawn_without_what_models_and_exports_need() -> None:
    done = subprocess.run(
        [sys.executable, "-c", FIRST_SCREEN], cwd=ROOT, capture_output=True, text=True, timeout=120, check=True
    )
    assert done.stdout.strip() == ""


def test_an_example_holds_its_input_and_the_answer_of_a_trained_model(showing: Showing) -> None:
    [run] = showing.runs
    assert isinstance(run.input, ImageInput if run.is_picture else TextInput)
    assert isinstance(run.prediction, ClassPrediction if run.is_picture else TextPrediction)
    assert run.trace.run.notes["training"].startswith("trained")
    assert run.trace.run.self_check
    assert all(check.passed for check in run.trace.run.self_check)
    assert run.trace.reference is not None


def test_an_example_has_something_to_say_about_drops_and_routing(showing: Showing) -> None:
    [run] = showing.runs
    assert (run.trace.assignments.status == 1).any()
    assert showing.routing_value is not None
    assert showing.routing_value["loss_change"].notna().any()
    assert compare_runs(run.trace, run.trace) is not None


def test_an_example_shows_every_view_that_needs_no_second_run_and_no_unit(showing: Showing) -> None:
    exhibit = Exhibit(runs=showing.runs, selection=showing.selection, routing_value=showing.routing_value)
    absent = {name for name in VIEWS if missing(exhibit, name)}
    expected = {"unit", "atlas-difference", "route-changes"} | ({"loss-strip"} if exhibit.run.is_picture else set())
    assert absent == expected


def test_examples_are_small() -> None:
    assert all(path.stat().st_size < 500_000 for path in EXAMPLES.values())
