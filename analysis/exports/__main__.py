"""`python -m analysis.exports BUNDLE --view NAME --preset icml`: the files the page makes, without the page."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from analysis.exports.bundle import load_bundle
from analysis.exports.files import DEFAULT_DPI, FORMATS, Format, export_view, file_stem
from analysis.exports.presets import PRESETS, SPANS, preset_named, spans_of
from analysis.views import VIEWS, missing
from uoe_model.errors import UoEError


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the files; 0 if all were written, 2 with one sentence if not."""
    options = _parser().parse_args(arguments)
    try:
        with options.bundle.open("rb") as file:
            exhibit = load_bundle(file)
        is_all = options.view == "all"
        names = [name for name in VIEWS if not missing(exhibit, name)] if is_all else [options.view]
        preset = preset_named(options.preset)
        made = {
            options.output / f"{file_stem(name)}.{kind}": export_view(
                exhibit, name, kind, preset=preset, span=options.span or spans_of(preset)[0], dpi=options.dpi
            )
            for name in names
            for kind in _formats(options.format)
        }
        options.output.mkdir(parents=True, exist_ok=True)
        for path, data in made.items():
            path.write_bytes(data)
            print(path)
    except (UoEError, OSError) as error:
        print(f"Nothing was written: {error}", file=sys.stderr)
        return 2
    return 0


def _formats(chosen: list[str] | None) -> list[Format]:
    return [kind for kind in FORMATS if kind in (chosen or ("svg", "pdf", "csv"))]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m analysis.exports", description="Figures and tables of a run bundle."
    )
    parser.add_argument("bundle", type=Path, help="a run bundle, saved on the page")
    parser.add_argument("--view", choices=[*VIEWS, "all"], default="all", help="default: every view it can show")
    parser.add_argument("--preset", choices=list(PRESETS), default="icml", help="venue whose page the figure fits")
    parser.add_argument("--span", choices=list(SPANS), help="width of the figure; default: the venue's narrower one")
    parser.add_argument("--format", nargs="+", choices=list(FORMATS), metavar="FORMAT", help="default: svg pdf csv")
    parser.add_argument("--dpi", type=int, default=DEFAULT_DPI, help="of PNG files, at their printed size")
    parser.add_argument("--output", type=Path, default=Path(), help="folder of the files; default: this one")
    return parser


if __name__ == "__main__":
    sys.exit(main())
