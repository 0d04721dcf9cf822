"""How alike two embeddings are."""

import numpy as np
import numpy.typing as npt


def cosine(one: npt.NDArray[np.float32], other: npt.NDArray[np.float32]) -> float:
    """Cosine of the angle between two vectors (D,); NaN if one of them is 0."""
    first, second = one.astype(np.float64), other.astype(np.float64)
    lengths = float(np.linalg.norm(first) * np.linalg.norm(second))
    return float(first @ second) / lengths if lengths else float("nan")
