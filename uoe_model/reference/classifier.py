"""The released long-range classifier: embeddings, two blocks, mean over the sequence, two-layer head."""

import dataclasses

import torch
import torch.nn.functional as F
from torch import Tensor

from uoe_model.errors import InputError
from uoe_model.reference.blocks import How, Parameters, Routed, attention, mlp_v2, under

RMS_EPSILON = 1e-6
LAYER_EPSILON = 1e-5


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class ClassifierShape:
    """Sizes that the shapes of the parameters do not say, as in the released settings."""

    attention_top_k: int = 1
    mlp_top_k: int = 2
    num_heads: int = 2


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Classified:
    """Logits (B, V), the pooled vector (B, D), every site's routing, and hidden states by released name."""

    logits_BV: Tensor
    pooled_BD: Tensor
    sites: tuple[Routed, ...]
    hidden: dict[str, Tensor]


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class ReferenceClassifier:
    """The released model as its parameters, by their released names.

    Attributes:
        name: of the file. digest: SHA-256 of it.
    """

    parameters: Parameters
    shape: ClassifierShape = dataclasses.field(default_factory=ClassifierShape)
    name: str = "reference"
    digest: str = ""

    @property
    def num_layers(self) -> int:
        """Blocks of attention and MLP."""
        return sum(key.endswith(".norm1.weight") for key in self.parameters)

    @property
    def length(self) -> int:
        """Positions it was trained with; released code takes no other length."""
        return len(self.parameters["model.embeddings.position_embeddings.weight"])

    @property
    def vocab_size(self) -> int:
        """Token ids it knows; 0 is padding."""
        return len(self.parameters["model.embeddings.word_embeddings.weight"])

    @property
    def num_classes(self) -> int:
        """Answers it chooses from."""
        return len(self.parameters["seq_classifer.mlpblock.2.weight"])

    def num_experts(self, block: str) -> int:
        """Experts of the attention or the MLP."""
        at = "mha.W_qkv.weight.0" if block == "attention" else "mlpblock.linear1.weight.0"
        return len(self.parameters[f"model.transformer_0.{at}"])

    def __call__(self, ids_BS: Tensor, mask_BS: Tensor | None = None, how: How | None = None) -> Classified:
        """Classify token ids.

        Args:
            ids_BS: int64, at most as long as the positions (the released rotation table takes the full length only;
                shorter inputs use its first rows). mask_BS: 1 for real units; None: all are.

        Raises:
            InputError: ids that the model does not know, or too many of them.
        """
        how = How() if how is None else how
        if ids_BS.ndim != 2 or not ids_BS.numel() or ids_BS.shape[1] > self.length:
            raise InputError(f"token ids of shape {tuple(ids_BS.shape)} must be rows of 1 to {self.length} ids")
        if int(ids_BS.min()) < 0 or int(ids_BS.max()) >= self.vocab_size:
            raise InputError(f"token ids must lie in 0..{self.vocab_size - 1}")
        if mask_BS is None:
            mask_BS = torch.ones_like(ids_BS)
        words = self.parameters["model.embeddings.word_embeddings.weight"]
        x = words[ids_BS] + self.parameters["model.embeddings.position_embeddings.weight"][: ids_BS.shape[1]]
        hidden, sites = {"emb": x}, list[Routed]()
        for layer in range(self.num_layers):
            at = f"model.transformer_{layer}."
            u = _rms_norm(x, self.parameters[at + "norm1.weight"])
            routed = attention(
                u,
                mask_BS,
                under(self.parameters, at + "mha."),
                top_k=self.shape.attention_top_k,
                num_heads=self.shape.num_heads,
                how=how,
                site=f"l{layer}_attn",
            )
            x = x + routed.out_BSD
            hidden |= {f"l{layer}_norm1": u, f"l{layer}_attn_out": routed.out_BSD}
            sites.append(routed)
            u = _rms_norm(x, self.parameters[at + "norm2.weight"])
            routed = mlp_v2(
                u,
                mask_BS,
                under(self.parameters, at + "mlpblock."),
                top_k=self.shape.mlp_top_k,
                how=how,
                site=f"l{layer}_mlp",
            )
            x = x + routed.out_BSD
            hidden |= {f"l{layer}_norm2": u, f"l{layer}_mlp_out": routed.out_BSD, f"l{layer}_block_out": x}
            sites.append(routed)
        width = x.shape[-1]
        scale, shift = (self.parameters[f"model.norm.{part}"] for part in ("weight", "bias"))
        z = F.layer_norm(x, (width,), scale, shift, LAYER_EPSILON) * mask_BS.unsqueeze(-1)
        hidden["final"] = z
        count = z.shape[1] if how.quirks.routed_padding else mask_BS.sum(1, keepdim=True).clamp_min(1)
        pooled = z.sum(1) / count
        first, second = "seq_classifer.mlpblock.0.", "seq_classifer.mlpblock.2."
        inner = F.linear(pooled, self.parameters[first + "weight"], self.parameters[first + "bias"]).relu()
        logits = F.linear(inner, self.parameters[second + "weight"], self.parameters[second + "bias"])
        return Classified(logits_BV=logits, pooled_BD=pooled, sites=tuple(sites), hidden=hidden)


def _rms_norm(u: Tensor, weight_D: Tensor) -> Tensor:
    return weight_D * u * (u.square().mean(-1, keepdim=True) + RMS_EPSILON).rsqrt()
