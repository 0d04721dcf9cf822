"""Further work for the device's worker: runs of the authors' released model, what its quirks do, and decomposition."""

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from dashboard.models import DenseEntry, ReferenceEntry
from dashboard.tasks import Content, JobWatch, open_picture
from uoe_model.errors import CheckpointError
from uoe_model.result import RunResult
from uoe_model.sources.released_quirks import CLASSIFIER_QUIRKS, Quirks, TieRule

if TYPE_CHECKING:
    from uoe_model.sources.reference import ReferenceClassifier


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class ReferenceRunRequest:
    """Token ids for the authors' released model, one example a line, all in one batch."""

    model: ReferenceEntry
    text: str
    quirks: Quirks
    ties: TieRule

    @property
    def name(self) -> str:
        """How many examples there are."""
        count = len([line for line in self.text.splitlines() if line.strip()])
        return "1 example" if count == 1 else f"{count} examples"

    def changes(self) -> str:
        """The quirks that are repaired, in words; "" if none is."""
        off = [name.replace("_", " ") for name in self.quirks.names_off()]
        return "repaired: " + ", ".join(off) if off else ""

    def work(self, model: "ReferenceClassifier", watch: JobWatch) -> tuple[RunResult, ...]:
        """Run them; one run per example."""
        from uoe_model.sources.reference import parse_ids, run_reference

        examples = parse_ids(self.text, model)
        names = [f"example {number}" for number in range(len(examples))]
        return run_reference(model, examples, quirks=self.quirks, ties=self.ties, names=names, watch=watch)


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class ReleasedStudy:
    """What the released model really does with some examples.

    Attributes:
        effects: records of `released_effects`. without_gradient: parameters that training never moves, and `moved`: how
            many it does.
        batch, alone, repaired: runs of the first example, with the others, by itself, and with every quirk repaired.
    """

    effects: list[dict[str, Any]]
    without_gradient: tuple[str, ...]
    moved: int
    batch: RunResult
    alone: RunResult
    repaired: RunResult


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class ReleasedStudyRequest:
    """What the released model's quirks do to the first of some examples."""

    model: ReferenceEntry
    text: str
    name: str = "the released code"

    def work(self, model: "ReferenceClassifier", watch: JobWatch) -> ReleasedStudy:
        """Measure it."""
        from uoe_model.sources.reference import parse_ids, released_effects, run_reference, untrained_routers

        examples = parse_ids(self.text, model)
        without, moved = untrained_routers(model, examples)
        names = [f"example {number}" for number in range(len(examples))]
        repaired = Quirks().without(CLASSIFIER_QUIRKS)
        return ReleasedStudy(
            effects=released_effects(model, examples, watch=watch),
            without_gradient=without,
            moved=moved,
            batch=run_reference(model, examples, names=names, watch=watch)[0],
            alone=run_reference(model, examples[:1], names=["example 0 alone"], watch=watch)[0],
            repaired=run_reference(model, examples, quirks=repaired, names=names, watch=watch)[0],
        )


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class DecomposeRequest:
    """Cut a dense checkpoint into experts, and write the result as a new checkpoint folder.

    Attributes:
        source: a folder of the server, or the id of a checkpoint on a hub.
        inputs: unlabelled texts or pictures (name, content) to calibrate on.
    """

    source: DenseEntry | str
    target: Path
    attention_experts: int
    mlp_experts: int
    attention_top_k: int
    mlp_top_k: int
    slices: str
    inputs: tuple[tuple[str, Content], ...]
    model: None = None

    @property
    def name(self) -> str:
        """What is cut."""
        return self.source if isinstance(self.source, str) else self.source.label

    def work(self, nothing: None, watch: JobWatch) -> dict[str, Any]:
        """Do it; the record that stands in the folder too."""
        from uoe_model.decompose.decomposition import DecomposeOptions, decompose
        from uoe_model.decompose.source import check_hub_id

        del nothing
        if isinstance(self.source, str):
            check_hub_id(self.source)
        options = DecomposeOptions(
            attention_experts=self.attention_experts,
            mlp_experts=self.mlp_experts,
            attention_top_k=self.attention_top_k,
            mlp_top_k=self.mlp_top_k,
            slices=self.slices,  # type: ignore[arg-type]  # checked by the options
        )
        return decompose(
            self.source if isinstance(self.source, str) else self.source.folder,
            self.target,
            options,
            texts=[content for _, content in self.inputs if isinstance(content, str)],
            images=[open_picture(content, name)[0] for name, content in self.inputs if isinstance(content, bytes)],
            watch=watch,
        )


FORBIDDEN: Final = ("/", "\\", "\0", ":")


def target_folder(parent: Path | None, name: str) -> Path:
    """The folder of a new checkpoint.

    Raises:
        CheckpointError: there is no folder for new checkpoints, or the name is none.
    """
    name = name.strip()
    if parent is None:
        raise CheckpointError("New checkpoints need a folder: start the page with -- --models DIR.")
    if not name or len(name) > 80 or name.startswith((".", "_")) or any(sign in name for sign in FORBIDDEN):
        raise CheckpointError(
            f"{name[:40]!r} is no name of a checkpoint folder: use letters, digits, '-', '_' and '.'."
        )
    if (parent / name).exists():
        raise CheckpointError(f"{name} exists already among your checkpoints: choose another name.")
    return parent / name
