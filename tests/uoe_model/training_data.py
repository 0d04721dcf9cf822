"""Small synthetic data in the shape of the real one, and settings that train on it in a second."""

import io
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from tests.uoe_model.models import causal_router, free_router
from uoe_model.training.settings import ImageTraining, TextTraining

LABELS = ("cat", "ship", "tree")
WORDS = ("one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "é", "naïve")


def write_data(folder: Path) -> Path:
    """A data folder: 8 x 8 pictures in three classes, and two domains of word salad."""
    (folder / "images").mkdir(parents=True)
    (folder / "text").mkdir()
    for name, number, seed in (("train", 30, 1), ("test", 12, 2)):
        _write_images(folder / "images" / f"cifar10-{name}.parquet", number, seed)
    for name, number, seed in (("train", 12, 3), ("valid", 4, 4), ("test", 6, 5)):
        _write_texts(folder / "text" / f"{name}.parquet", number, seed)
    return folder


def image_settings(**changes: Any) -> ImageTraining:
    """Six steps of four pictures."""
    model = {
        "vocab_size": 0,
        "hidden_size": 16,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "intermediate_size": 32,
        "is_causal": False,
        "position_embedding": "learned",
        "attention_router": free_router(gate_keys=True),
        "mlp_router": free_router(num_experts=8),
        "image_size": 8,
        "grid_size": 4,
        "stem_channels": [6],
    }
    fields: dict[str, Any] = {"model": model, "validation_images": 6, "label_smoothing": 0.1, "crop_padding": 1}
    return ImageTraining(**(_small(batch_size=4) | fields | changes))


def text_settings(**changes: Any) -> TextTraining:
    """Six steps of two windows of 24 tokens."""
    model = {
        "vocab_size": 300,
        "hidden_size": 16,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "intermediate_size": 32,
        "max_position_embeddings": 24,
        "attention_router": causal_router(gate_keys=True),
        "mlp_router": causal_router(num_experts=8),
        "balance_scope": "sequence",
    }
    return TextTraining(**(_small(batch_size=2) | {"model": model, "validation_windows": 2} | changes))


def _small(*, batch_size: int) -> dict[str, Any]:
    return {
        "steps": 6,
        "batch_size": batch_size,
        "learning_rate": 1e-2,
        "warm_up_steps": 2,
        "betas": (0.9, 0.95),
        "ema_decay": 0.9,
        "log_every": 2,
        "validate_every": 3,
        "checkpoint_every": 1,
        "keep_checkpoints": 2,
        "milestones": (0.5,),
        "device": "cpu",
    }


def _write_images(path: Path, number: int, seed: int) -> None:
    generator = np.random.default_rng(seed)
    encoded: list[bytes] = []
    for _ in range(number):
        file = io.BytesIO()
        Image.fromarray(generator.integers(0, 256, (8, 8, 3), dtype=np.uint8)).save(file, "PNG")
        encoded.append(file.getvalue())
    labels = [row % len(LABELS) for row in range(number)]
    columns = {
        "image": pa.array(encoded, pa.binary()),
        "label": pa.array(labels, pa.int8()),
        "label_name": [LABELS[label] for label in labels],
    }
    pq.write_table(pa.table(columns), path)


def _write_texts(path: Path, number: int, seed: int) -> None:
    generator = np.random.default_rng(seed)
    texts = [" ".join(generator.choice(WORDS, size=generator.integers(20, 60))) for _ in range(number)]
    domains = ["code" if row % 3 else "fiction" for row in range(number)]
    names = [f"{domain}/salad/{row // 2}#{row % 2 + 1}of2" for row, domain in enumerate(domains)]
    pq.write_table(pa.table({"doc_id": names, "domain": domains, "text": texts}), path)
