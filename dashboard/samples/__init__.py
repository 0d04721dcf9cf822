"""Texts and pictures that come with the page, for visitors who have none at hand; licences are in SOURCES.md."""

import dataclasses
from pathlib import Path
from typing import Final, Literal

FOLDER: Final = Path(__file__).parent


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Sample:
    """One bundled input.

    Attributes:
        kind: which input it is for.
        file_name: inside this folder.
        title: what the visitor picks.
        description: one sentence on what there is to see.
        credit: author and licence.
    """

    kind: Literal["text", "image"]
    file_name: str
    title: str
    description: str
    credit: str

    @property
    def path(self) -> Path:
        """Where the file lies."""
        return FOLDER / self.file_name

    def read_bytes(self) -> bytes:
        """The file's content, as if the visitor had uploaded it."""
        return self.path.read_bytes()

    def read_text(self) -> str:
        """The text of a text sample, without the newline at its end."""
        return self.read_bytes().decode("utf-8").removesuffix("\n")


TEXT_SAMPLES: Final = (
    Sample(
        kind="text",
        file_name="prose.txt",
        title="A scene",
        description="English prose with dialogue.",
        credit="Written for this project",
    ),
    Sample(
        kind="text",
        file_name="code.txt",
        title="A program",
        description="Python: names, indentation, punctuation and a docstring.",
        credit="Written for this project",
    ),
    Sample(
        kind="text",
        file_name="languages.txt",
        title="Many languages",
        description="One sentence in sixteen languages; rare characters are several byte tokens each.",
        credit="Written for this project",
    ),
    Sample(
        kind="text",
        file_name="poem.txt",
        title="The Tyger",
        description="Verse from 1794, with repeated lines.",
        credit="William Blake, public domain",
    ),
)

IMAGE_SAMPLES: Final = (
    Sample(
        kind="image",
        file_name="cat.jpg",
        title="Cat",
        description="A close photograph of a cat's face.",
        credit="Stéfan van der Walt, CC0",
    ),
    Sample(
        kind="image",
        file_name="ship.jpg",
        title="Ship",
        description="A drawing of a container ship at sea.",
        credit="Drawn for this project",
    ),
    Sample(
        kind="image",
        file_name="airplane.jpg",
        title="Airplane",
        description="A drawing of an airliner in the sky.",
        credit="Drawn for this project",
    ),
    Sample(
        kind="image",
        file_name="coffee.jpg",
        title="Coffee cup",
        description="A photograph of something that is none of the model's ten classes.",
        credit="Rachel Michetti, CC0",
    ),
)
