"""`python -m analysis.exports BUNDLE --view NAME --preset icml`: the files the page makes, without the page."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from analysis.exports.bundle import load_bundle
from analysis.exports.decomposition import NAME as DECOMPOSITION
from analysis.exports.decomposition import export_decomposition
from analysis.exports.files import DEFAULT_DPI, FORMATS, Format, export_view, file_stem
from analysis.exports.presets import PRESETS, SPANS, preset_named, spans_of
from analysis.views import VIEWS, missing
from uoe_model.checkpoint_json import DECOMPOSITION as RECORD
from uoe_model.checkpoint_json import read_json
from uoe_model.errors import ConfigError, UoEError


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the files; 0 if all were written, 2 with one sentence if not."""
    options = _parser().parse_args(arguments)
    try:
        made = _curve(options) if options.bundle.is_dir() else _views(options)
        options.output.mkdir(parents=True, exist_ok=True)
        for name, data in made.items():
            path = options.output / name
            path.write_bytes(data)
            print(path)
    except (UoEError, OSError) as error:
        print(f"Nothing was written: {error}", file=sys.stderr)
        return 2
    return 0


def _views(options: argparse.Namespace) -> dict[str, bytes]:
    """Files of a run bundle, by name."""
    with options.bundle.open("rb") as file:
        exhibit = load_bundle(file)
    is_all = options.view == "all"
    names = [name for name in VIEWS if not missing(exhibit, name)] if is_all else [options.view]
    preset = preset_named(options.preset)
    return {
        f"{file_stem(name)}.{kind}": export_view(
            exhibit, name, kind, preset=preset, span=options.span or spans_of(preset)[0], dpi=options.dpi
        )
        for name in names
        for kind in _formats(options.format)
    }


def _curve(options: argparse.Namespace) -> dict[str, bytes]:
    """Files of a decomposed model, by name."""
    if options.view not in ("all", DECOMPOSITION):
        raise ConfigError(f"view={options.view!r} is one of a run bundle: a model's folder has {DECOMPOSITION!r} only")
    record, preset = read_json(options.bundle / RECORD), preset_named(options.preset)
    return {
        f"{file_stem(DECOMPOSITION)}.{kind}": export_decomposition(
            record, kind, preset=preset, span=options.span, dpi=options.dpi
        )
        for kind in _formats(options.format)
    }


def _formats(chosen: list[str] | None) -> list[Format]:
    return [kind for kind in FORMATS if kind in (chosen or ("svg", "pdf", "csv"))]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m analysis.exports", description="Figures and tables of a run bundle, or of a decomposed model."
    )
    parser.add_argument(
        "bundle", type=Path, help="a run bundle, saved on the page, or the folder of a decomposed model"
    )
    parser.add_argument(
        "--view", choices=[*VIEWS, DECOMPOSITION, "all"], default="all", help="default: every view it can show"
    )
    parser.add_argument("--preset", choices=list(PRESETS), default="icml", help="venue whose page the figure fits")
    parser.add_argument("--span", choices=list(SPANS), help="width of the figure; default: the venue's narrower one")
    parser.add_argument("--format", nargs="+", choices=list(FORMATS), metavar="FORMAT", help="default: svg pdf csv")
    parser.add_argument("--dpi", type=int, default=DEFAULT_DPI, help="of PNG files, at their printed size")
    parser.add_argument("--output", type=Path, default=Path(), help="folder of the files; default: this one")
    return parser


if __name__ == "__main__":
    sys.exit(main())
