"""A dense transformer as plain matrices, whatever library class it came from."""

import dataclasses
from typing import Any, Literal

from torch import Tensor

DenseKind = Literal["encoder", "causal", "image"]


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class DenseNorm:
    """Scale (D,), and shift (D,) of a LayerNorm; None for an RMSNorm."""

    weight: Tensor
    bias: Tensor | None


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class DenseBlock:
    """One layer. Vectors multiply matrices from the left; H heads share G key/value heads of width W.

    Attributes:
        q: (D, H * W). k, v: (D, G * W). o: (H * W, D). b_*: biases, zeros where the model has none.
        w_in: (D, F). w_up: (D, F) of SwiGLU, else None. w_out: (F, D).
    """

    norm_attention: DenseNorm
    q: Tensor
    k: Tensor
    v: Tensor
    o: Tensor
    b_q: Tensor
    b_k: Tensor
    b_v: Tensor
    b_o: Tensor
    norm_mlp: DenseNorm
    w_in: Tensor
    b_in: Tensor
    w_up: Tensor | None
    b_up: Tensor | None
    w_out: Tensor
    b_out: Tensor


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class DenseModel:
    """A whole dense model.

    Attributes:
        family: its Hugging Face model type. name: of the checkpoint.
        kind: text encoder, causal language model, or image classifier.
        config: the fields of `UoEConfig` that describe it; routers apart.
        rest: every tensor outside of the blocks, by its name in the Union of Experts.
    """

    family: str
    name: str
    kind: DenseKind
    config: dict[str, Any]
    blocks: tuple[DenseBlock, ...]
    rest: dict[str, Tensor]
