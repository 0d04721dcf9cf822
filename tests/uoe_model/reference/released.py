"""A small classifier of the released kind with random weights, and where recordings of the real one may lie."""

import os
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from uoe_model.reference.classifier import ReferenceClassifier

DATA = Path(os.environ.get("UOE_REFERENCE_DATA", Path(__file__).parents[4] / "shared" / "data" / "reference"))
"""Folder of the released checkpoint and of recordings (`golden_*.npz`); tests that need it say so if it is missing."""


def released_parameters(
    *, length: int = 32, width: int = 16, vocabulary: int = 20, experts: tuple[int, int] = (2, 4), layers: int = 2
) -> dict[str, Tensor]:
    """Random parameters by their released names."""
    generator = torch.Generator().manual_seed(0)

    def normal(*shape: int) -> Tensor:
        return 0.4 * torch.randn(*shape, generator=generator)

    a, m = experts
    w, f = width // a, 8
    found = {
        "model.embeddings.word_embeddings.weight": normal(vocabulary, width),
        "model.embeddings.position_embeddings.weight": normal(length, width),
        "model.norm.weight": 1 + normal(width),
        "model.norm.bias": normal(width),
        "seq_classifer.mlpblock.0.weight": normal(12, width),
        "seq_classifer.mlpblock.0.bias": normal(12),
        "seq_classifer.mlpblock.2.weight": normal(10, 12),
        "seq_classifer.mlpblock.2.bias": normal(10),
    }
    for layer in range(layers):
        found |= {
            f"model.transformer_{layer}.{key}": value
            for key, value in {
                "norm1.weight": 1 + normal(width),
                "norm2.weight": 1 + normal(width),
                "mha.switch_gate.weight": normal(a, width),
                "mha.switch_gate.bias": normal(a),
                "mha.W_qkv.weight.0": normal(a, width, 3 * w),
                "mha.W_qkv.bias.0": normal(a, 1, 3 * w),
                "mha.ff.weight.0": normal(a, w, width),
                "mha.ff.bias": normal(a, width),
                "mha.kv_norm.weight": normal(w),
                "mha.layer_norm.weight": normal(width),
                "mha.layer_norm.bias": normal(width),
                "mlpblock.switch_gate.w_gate.weight": normal(m, width),
                "mlpblock.switch_gate.w_gate.bias": normal(m),
                "mlpblock.switch_gate.s_gate.weight": normal(length // width, length),
                "mlpblock.switch_gate.s_gate.bias": normal(length // width),
                "mlpblock.linear1.weight.0": normal(m, width, f),
                "mlpblock.linear1.bias.0": normal(m, 1, f),
                "mlpblock.linear2.weight.0": normal(m, f, width),
                "mlpblock.linear2.bias": normal(m, width),
                "mlpblock.linear3.weight": normal(width, width),
                "mlpblock.linear3.bias": normal(width),
            }.items()
        }
    return found


def released_model(**sizes: Any) -> ReferenceClassifier:
    return ReferenceClassifier(parameters=released_parameters(**sizes), name="tiny")


def save_released(path: Path, **sizes: Any) -> Path:
    torch.save({"model_state_dict": released_parameters(**sizes)}, path)
    return path
