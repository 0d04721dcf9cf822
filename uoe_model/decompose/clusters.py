"""Which hidden units of an MLP belong together: those that are active on the same units of text."""

from collections.abc import Sequence
from itertools import pairwise
from typing import Final

import numpy as np
import torch
from torch import Tensor

from uoe_model.errors import ConfigError

MOST_FEATURES: Final = 1024
"""Units of calibration text that activations are compared on."""


def picked_rows(counts: Sequence[int]) -> list[Tensor]:
    """Which units of every batch to compare activations on: at most `MOST_FEATURES`, evenly over all.

    Args:
        counts: units of every batch.

    Returns:
        Per batch int64 row numbers, rising.
    """
    total = sum(counts)
    picked = np.linspace(0, total - 1, min(total, MOST_FEATURES)).astype(np.int64)
    starts = np.cumsum([0, *counts])
    return [
        torch.from_numpy(picked[(picked >= start) & (picked < end)] - start) for start, end in pairwise(starts.tolist())
    ]


def co_activation_order(active_NF: Tensor, num_experts: int, *, seed: int = 0) -> Tensor:
    """Order the hidden units so that every run of F / E of them is one cluster of like activation.

    Balanced k-means (k-means-constrained, a minimum-cost flow) over each hidden unit's activations, scaled to length 1
    (after MoEfication, arXiv 2110.01786, section 3.1, which clusters the columns of the first matrix instead).

    Args:
        active_NF: activations of the hidden units on N units of calibration text.

    Returns:
        int64 (F,).

    Raises:
        ConfigError: the library for balanced clusters is not installed.
    """
    try:
        from k_means_constrained import KMeansConstrained
    except ImportError as error:
        raise ConfigError(
            "slices='co_activation' needs the package k-means-constrained: install requirements.txt, or choose "
            "slices='contiguous'"
        ) from error
    features_FN = active_NF.t().double().numpy()
    lengths_F1 = np.linalg.norm(features_FN, axis=1, keepdims=True)
    features_FN = features_FN / np.maximum(lengths_F1, 1e-12)
    size = len(features_FN) // num_experts
    clusters = KMeansConstrained(
        n_clusters=num_experts, size_min=size, size_max=size, n_init=1, max_iter=50, random_state=seed
    )
    label_F = clusters.fit_predict(features_FN)
    return torch.from_numpy(np.argsort(label_F, kind="stable"))
