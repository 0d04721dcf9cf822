"""Record the bundled examples: `python -m dashboard.examples`, with the bundled checkpoints, on this machine."""

import io
from pathlib import Path

from analysis.exhibit import Exhibit
from analysis.exports.bundle import save_bundle
from analysis.highlights import find_highlights
from analysis.routing_value import input_routing_value_table
from analysis.selection import Selection
from dashboard.models import read_entry
from dashboard.results import show_finished
from dashboard.samples import IMAGE_SAMPLES, TEXT_SAMPLES
from dashboard.settings import DEFAULT_NEW_TOKENS, PRETRAINED
from dashboard.tasks import RoutingChanges, RunRequest
from uoe_model.generation import GenerationSettings
from uoe_model.probes import input_routing_value
from uoe_model.processors.image_input import read_image
from uoe_model.run import load_bundle
from uoe_model.watch import Unwatched

FOLDER = Path(__file__).parent


class _Quiet(Unwatched):
    """Nobody follows the inputs either."""

    def begin_input(self, number: int, total: int, name: str) -> None:
        """Not told to anybody."""


def main() -> None:
    """Write both files."""
    text, picture = TEXT_SAMPLES[0], next(sample for sample in IMAGE_SAMPLES if sample.title == "Cat")
    record("text", "uoe-text", text.title, text.read_text(), DEFAULT_NEW_TOKENS)
    record("picture", "uoe-image", picture.file_name, picture.read_bytes(), 0)


def record(name: str, model: str, input_name: str, content: str | bytes, new_tokens: int) -> None:
    """Run one input, measure what routing buys, and save the bundle that the page opens first."""
    entry, bundle = read_entry(PRETRAINED / model, model), load_bundle(PRETRAINED / model, "cpu")
    request = RunRequest(
        model=entry,
        inputs=((input_name, content),),
        generation=GenerationSettings(max_new_tokens=new_tokens),
        changes=RoutingChanges(),
    )
    showing = show_finished(request, request.work(bundle, _Quiet()))
    source = content if isinstance(content, str) else read_image(content, name=input_name).image
    run = showing.runs[0]
    fullest = find_highlights(run.trace).fullest
    exhibit = Exhibit(
        runs=showing.runs,
        selection=Selection(site_id=fullest[0] if fullest else 0),
        routing_value=input_routing_value_table(input_routing_value(bundle, source)),
    )
    stream = io.BytesIO()
    save_bundle(exhibit, stream)
    path = FOLDER / f"{name}.zip"
    path.write_bytes(stream.getvalue())
    print(f"{path.name}: {run.trace.num_units} units, {len(stream.getvalue()):,} bytes")


main()
