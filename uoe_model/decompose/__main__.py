"""`python -m uoe_model.decompose SOURCE TARGET`: cut a dense Hugging Face checkpoint into a Union of Experts."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from tqdm import tqdm

from uoe_model.decompose.decomposition import DecomposeOptions, decompose
from uoe_model.errors import InputError, UoEError
from uoe_model.processors.text_input import MAX_TEXT_BYTES, decode_text
from uoe_model.watch import Stage, Unwatched


class _Bar(Unwatched):
    """Shows progress on the terminal."""

    def __init__(self) -> None:
        self._bar = tqdm(total=1, unit="step")

    def report(self, stage: Stage, done: int, total: int) -> None:
        """Another stage starts a new count."""
        self._bar.set_description(stage, refresh=False)
        self._bar.total, self._bar.n = max(total, 1), done
        self._bar.refresh()

    def close(self) -> None:
        """Leave the last line."""
        self._bar.close()


def _read_text(path: Path) -> str:
    if path.stat().st_size > MAX_TEXT_BYTES:
        raise InputError(f"{path.name} is larger than {MAX_TEXT_BYTES:,} bytes: calibrate on a part of it.")
    return decode_text(path.read_bytes(), name=path.name)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; user errors become one sentence on stderr."""
    parser = argparse.ArgumentParser(prog="python -m uoe_model.decompose", description=__doc__)
    parser.add_argument("source", help="folder of a BERT, GPT-2, Llama-style or ViT checkpoint, or its hub id")
    parser.add_argument("target", type=Path, help="folder to write; must not exist")
    parser.add_argument("--attention-experts", type=int, default=4)
    parser.add_argument("--mlp-experts", type=int, default=8)
    parser.add_argument("--top-k-attention", type=int, help="experts chosen per unit; half of them by default")
    parser.add_argument("--top-k-mlp", type=int, help="likewise for the MLP")
    parser.add_argument("--slices", choices=("contiguous", "co_activation"), default="contiguous")
    parser.add_argument("--routers", choices=("calibrated", "zero"), default="calibrated")
    parser.add_argument("--text", type=Path, nargs="+", default=[], help="UTF-8 files to calibrate text models on")
    parser.add_argument("--images", type=Path, nargs="+", default=[], help="pictures to calibrate image models on")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(arguments)
    bar = _Bar()
    try:
        record = decompose(
            options.source,
            options.target,
            DecomposeOptions(
                attention_experts=options.attention_experts,
                mlp_experts=options.mlp_experts,
                attention_top_k=options.top_k_attention,
                mlp_top_k=options.top_k_mlp,
                slices=options.slices,
                routers=options.routers,
                seed=options.seed,
            ),
            texts=[_read_text(path) for path in options.text],
            images=options.images,
            watch=bar,
        )
    except OSError as error:
        print(f"error: {error.filename}: {error.strerror}", file=sys.stderr)
        return 2
    except UoEError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    finally:
        bar.close()
    print(f"{options.target}: {record['summary']}")
    for row in record["curve"]:
        if row["routes"] == "calibrated" and row["scope"] == "both":
            quality = "".join(
                f", {name} {row[name]:.4f}" for name in ("cosine", "loss", "agreement") if row[name] is not None
            )
            print(
                f"  attention {row['attention_top_k']}, MLP {row['mlp_top_k']}: hidden states off by "
                f"{row['hidden_error']:.1%}{quality}"
            )
    return 0


if __name__ == "__main__":
    sys.exit(main())
