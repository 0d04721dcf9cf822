"""Fonts installed on this machine, as fontconfig lists them: asked once, for characters that no shipped font has."""

import shutil
import subprocess
from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Final

LIST_SECONDS: Final = 5.0
REGULAR_WEIGHT: Final = 80
_FORMAT: Final = "%{file}\t%{index}\t%{outline}\t%{color}\t%{slant}\t%{weight}\t%{charset}\n"


@dataclass(frozen=True, kw_only=True, slots=True)
class MachineFont:
    """A font file, the place of the font in it, and the code points it has (starts and ends, both inclusive)."""

    path: Path
    index: int
    starts: tuple[int, ...]
    ends: tuple[int, ...]

    def has(self, code: int) -> bool:
        """Whether the font says that it has a character."""
        place = bisect_right(self.starts, code) - 1
        return place >= 0 and code <= self.ends[place]


def fonts_with(code: int) -> Iterator[MachineFont]:
    """Fonts of this machine that have a character: upright sans of regular weight first, then by path."""
    return (font for font in _machine_fonts() if font.has(code))


@cache
def _machine_fonts() -> tuple[MachineFont, ...]:
    """All outline fonts in order of preference; none where fontconfig is missing, fails or is slow."""
    program = shutil.which("fc-list")
    if program is None:
        return ()
    try:
        done = subprocess.run([program, "--format", _FORMAT], capture_output=True, timeout=LIST_SECONDS, check=True)
    except (OSError, subprocess.SubprocessError):
        return ()
    return read_font_list(done.stdout.decode("utf-8", "replace"))


def read_font_list(text: str) -> tuple[MachineFont, ...]:
    """Read what `fc-list` printed; lines that cannot be read are left out."""
    found = []
    for line in set(text.splitlines()):
        fields = line.split("\t")
        if len(fields) != 7 or fields[2] != "True" or fields[3] == "True":  # no outlines, or pictures in colour
            continue
        path, index, _, _, slant, weight, charset = fields
        try:
            ranges = [tuple(int(end, 16) for end in (word + "-" + word).split("-")[:2]) for word in charset.split()]
            ranges = [(low, high) for low, high in ranges]
            place = int(index) & 0xFFFF  # the upper half names an instance of a variable font
        except ValueError:
            continue
        lean = slant != "0"
        heavy = abs(int(weight) - REGULAR_WEIGHT) if weight.isdigit() else 0
        font = MachineFont(
            path=Path(path),
            index=place,
            starts=tuple(low for low, _ in sorted(ranges)),
            ends=tuple(high for _, high in sorted(ranges)),
        )
        found.append(((lean, heavy, "sans" not in path.lower(), "mono" in path.lower(), path, place), font))
    return tuple(font for _, font in sorted(found, key=lambda pair: pair[0]))
