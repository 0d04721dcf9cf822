"""Every term that is shown, once: what it is, how it is computed, in what unit, and where it comes from."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from analysis.glossary.decisions import DECISIONS
from analysis.glossary.experiments import EXPERIMENTS
from analysis.glossary.judgements import JUDGEMENTS
from analysis.glossary.outcomes import OUTCOMES
from analysis.glossary.term import Term

__all__ = ["COLUMN_TERMS", "TERMS", "Term", "term_of"]

TERMS: Final[Mapping[str, Term]] = MappingProxyType(DECISIONS | OUTCOMES | JUDGEMENTS | EXPERIMENTS)
"""Every term by its key; a column of a statistic has the key of its term, or stands in COLUMN_TERMS."""

COLUMN_TERMS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "is_idle": "idle_experts",
        "reference_share": "reference",
        "reference_load": "reference",
        "reference_drop_share": "reference",
        "reference_load_cv": "reference",
        "reference_max_over_mean": "reference",
        "reference_low": "chance_band",
        "reference_high": "chance_band",
        "load_cv_low": "chance_band",
        "load_cv_high": "chance_band",
        "max_over_mean_low": "chance_band",
        "max_over_mean_high": "chance_band",
        "low": "chance_band",
        "high": "chance_band",
        "kept": "load",
        "is_counted": "requested",
        "gates": "gate",
        "output_probability": "probability",
        "from_units": "units",
        "to_units": "units",
        "lit_units": "units",
        "is_full": "full_experts",
        "load_a": "load",
        "load_b": "load",
        "difference": "load_difference",
        "first_changed": "changed_route",
        "kept_changed": "changed_route",
        "loss_a": "loss",
        "test_loss_low": "test_loss",
        "test_loss_high": "test_loss",
        "test_loss_sd": "test_loss",
        "requested_multiply_adds": "multiply_adds",
        "kept_multiply_adds": "multiply_adds",
        "step_seconds": "training_seconds",
        "active_parameters": "parameters",
        "drop_share_attention": "drop_share",
        "drop_share_mlp": "drop_share",
        "loss_b": "loss",
        "attention_top_k": "top_k",
        "mlp_top_k": "top_k",
        "is_chosen": "top_k",
        "attention_experts": "num_experts",
        "mlp_experts": "num_experts",
        "is_in_step": "expert_share",
    }
)
"""Columns that are named after what they stand beside: column -> key of its term."""


def term_of(column: str) -> Term:
    """The term that a column of a statistic shows.

    Raises:
        KeyError: an id or a text, which needs no term.
    """
    return TERMS[COLUMN_TERMS.get(column, column)]
