"""Every term that is shown, once: what it is, how it is computed, in what unit, and where it comes from."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from analysis.glossary_models import MODEL_TERMS
from analysis.glossary_term import SWITCH, UNION, Term

_TERMS: Final[dict[str, Term]] = {
    # What is counted.
    "units": Term(
        name="unit",
        sentence="What a router decides about: a token of text or a cell of an image.",
        unit="units",
    ),
    "patches": Term(
        name="patch",
        sentence="Consecutive units that are routed together; one unit unless the model says otherwise (patch_len).",
        unit="patches",
        source=UNION,
    ),
    "patch_len": Term(
        name="patch length",
        sentence="How many consecutive units make a patch.",
        unit="units",
        source=UNION,
    ),
    "examples": Term(
        name="example",
        sentence="One picture, or one stretch of text of at most the model's context length; capacity is per example.",
        unit="examples",
    ),
    "sites": Term(
        name="site",
        sentence="One router: the attention or the MLP of one layer.",
        unit="sites",
    ),
    "expert": Term(
        name="expert",
        sentence="An equal slice of a dense block: a group of attention heads, or a part of the MLP's hidden units.",
        source=UNION,
    ),
    "num_experts": Term(
        name="experts of a site",
        sentence="How many equal slices the block was cut into.",
        formula="E",
        unit="experts",
    ),
    "num_shared_experts": Term(
        name="shared experts",
        sentence="Experts that take every unit without being asked; they count in no load.",
        unit="experts",
    ),
    "top_k": Term(
        name="experts per patch",
        sentence="How many experts every patch asks for (every example with selection expert).",
        formula="k",
        unit="experts",
    ),
    # How it is decided.
    "selection": Term(
        name="selection",
        sentence="Who chooses: each patch its experts (data), each expert its patches (expert_choice), or one decision "
        "for all units of an example (expert).",
        source=UNION,
    ),
    "admission": Term(
        name="admission",
        sentence="Who gets a slot when too many ask: the more probable patch (score), or the earlier one (position, "
        "which needs no future).",
    ),
    "score": Term(
        name="router probability",
        sentence="The router's probability of an expert, over all experts of the site.",
        formula="softmax(logits)_e",
        unit="probability",
    ),
    "selection_score": Term(
        name="selection score",
        sentence="What the choice was really made by, after a bias or groups; absent where it is the probability.",
    ),
    "score_function": Term(
        name="score function",
        sentence="How the router's logits become probabilities.",
    ),
    "rank": Term(
        name="rank",
        sentence="Place of an expert in the patch's order of preference; 0 is the preferred one, -1 marks filler.",
    ),
    "gate": Term(
        name="gate",
        sentence="The weight that was really applied to an expert's output; 0 when dropped. It is not the probability.",
        formula="mean_one: k * p_e / sum of requested p; probability: p_e; one: 1",
    ),
    "gate_keys": Term(
        name="gated keys",
        sentence="Whether the gate also changes how much others attend to the unit inside an attention expert.",
        formula="key logit + ln(gate)",
    ),
    "capacity_factor": Term(
        name="capacity factor",
        sentence="How much room experts have beyond an even share; 1 is exactly enough if routing is perfectly even.",
        formula="f",
    ),
    "capacity": Term(
        name="capacity",
        sentence="Patches that one expert takes of one example at most; it grows with k.",
        formula="C = ceil(f * k * patches / E); with admission by position at patch t: max(4, ceil(f * k * (t+1) / E))",
        unit="patches",
        source="definition of this project; other implementations leave k out or round down",
    ),
    "inherited": Term(
        name="inherited",
        sentence="The unit's route was decided by the first unit of its patch.",
    ),
    "filler": Term(
        name="filler",
        sentence=(
            "A free slot holding a unit that did not ask for it, as in the authors' own code: attended to and written "
            "back like a kept one. No request, no load."
        ),
        source="the authors' released code of arXiv 2503.02495, commit 5f2306b",
    ),
    "filler_share": Term(
        name="filler share",
        sentence="Share of the slots in use that hold filler.",
        formula="filler / (kept + filler)",
        source="the authors' released code of arXiv 2503.02495, commit 5f2306b",
    ),
    "phase": Term(
        name="phase",
        sentence="Whether a unit was part of the input (prefill) or generated (decode).",
    ),
    # What came of it.
    "requested": Term(
        name="requested",
        sentence="Patches that asked for the expert; with expert_choice the patches it picked.",
        formula="number of (patch, rank) pairs that name the expert",
        unit="patches",
    ),
    "load": Term(
        name="load",
        sentence="Patches that got a slot at the expert (kept assignments).",
        formula="requested - dropped",
        unit="patches",
    ),
    "load_share": Term(
        name="load share",
        sentence="The expert's part of all kept assignments of its site; the shares of a site sum to 1.",
        formula="load / sum of load over experts",
        unit="share",
    ),
    "relative_load": Term(
        name="relative load",
        sentence="Load compared with a fair share; 1 is fair, 2 is twice as much.",
        formula="E * load share",
    ),
    "slots": Term(
        name="slots",
        sentence="Patches that the expert could have taken, over all examples of the input.",
        formula="sum of capacity over examples",
        unit="patches",
    ),
    "utilisation": Term(
        name="utilisation",
        sentence="Which part of its slots an expert filled; unknown where experts are never full.",
        formula="load / slots",
        unit="share",
    ),
    "idle_experts": Term(
        name="idle experts",
        sentence="Experts that took nothing of this input; that says little about other inputs.",
        formula="load = 0",
        unit="experts",
    ),
    "dead_experts": Term(
        name="dead experts",
        sentence="Experts that took nothing of a whole corpus; never said of one input.",
        formula="load over the corpus = 0",
        unit="experts",
    ),
    "dropped": Term(
        name="dropped assignments",
        sentence="Requests that found the expert full. The patch may still be kept by another expert.",
        formula="requested - load",
        unit="patches",
    ),
    "drop_share": Term(
        name="dropped share",
        sentence="Which part of the requests found the expert full.",
        formula="dropped assignments / requested",
        unit="share",
    ),
    "dropped_units": Term(
        name="dropped units",
        sentence="Units that asked for at least one expert and were kept by none: the block adds nothing to them.",
        formula="requests > 0 and kept = 0",
        unit="units",
    ),
    "dropped_unit_share": Term(
        name="share of dropped units",
        sentence="Dropped units among all units, at one site or over several.",
        formula="dropped units / units",
        unit="share",
    ),
    "unrouted_units": Term(
        name="unrouted units",
        sentence="Units that no expert picked (expert_choice); they asked for nothing, so nothing was dropped.",
        formula="requests = 0",
        unit="units",
    ),
    "unrouted_unit_share": Term(
        name="share of unrouted units",
        sentence="Unrouted units among all units, at one site or over several.",
        formula="unrouted units / units",
        unit="share",
    ),
    "other_kept": Term(
        name="kept by others",
        sentence="How many other experts kept a patch that found one of its experts full; 0 means it was lost here.",
        unit="experts",
    ),
    "co_activation": Term(
        name="co-activation",
        sentence="How often two experts kept the same unit, over all pairs of a unit's kept experts.",
        formula="N_ij / N_i over all pairs i != j, not only neighbours in rank",
        unit="share",
        source="OLMoE, arXiv 2409.02060, eq. 6",
    ),
    "transition": Term(
        name="transition",
        sentence="Where units go from the kept expert they prefer most at one site to that at the next; dropped units "
        "have a node of their own.",
        unit="units",
    ),
    "transition_share": Term(
        name="transition share",
        sentence="Which part of the units at one node go to a node of the next site.",
        formula="units that go this way / units at the first node",
        unit="share",
    ),
    "full_experts": Term(
        name="full experts",
        sentence="Experts that reached their capacity in an example: they turned a patch away, or kept as many as they "
        "have slots.",
        formula="dropped > 0 or kept = capacity",
        unit="experts",
    ),
    "first_drop_position": Term(
        name="first drop",
        sentence="Position of the first unit of an example whose request an expert turned away.",
        formula="smallest position with a dropped request",
        unit="position",
    ),
    "draws": Term(
        name="draws",
        sentence="How often a random replacement was drawn anew; low and high are the smallest and largest loss change "
        "among them, which is no interval over data.",
        unit="draws",
    ),
    # How sure and how even.
    "entropy": Term(
        name="router entropy",
        sentence="How undecided the router was about a unit, before top-k and capacity.",
        formula="-sum over all E experts of p ln p, 0 to ln E",
        unit="nats",
    ),
    "entropy_share": Term(
        name="relative entropy of the router",
        sentence="Router entropy as a part of what it could be at most; 1 is completely undecided.",
        formula="entropy / ln E",
        unit="share",
    ),
    "effective_experts": Term(
        name="effective experts",
        sentence="The number of equally probable experts that would give the same entropy.",
        formula="exp(entropy), 1 to E",
        unit="experts",
    ),
    "margin": Term(
        name="margin",
        sentence="How far the router preferred its first expert to its second; near 0 a rounding error can change the "
        "route.",
        formula="largest p - second largest p",
        unit="probability",
    ),
    "balance_loss": Term(
        name="load-balancing loss",
        sentence="What training minimises to keep requests even; 1 when routing is even, whatever k is.",
        formula="E * sum over experts of f_e * P_e; f_e: share of requests before capacity, P_e: mean probability",
        source=f"{SWITCH}, over all k requests; other code reports k instead of 1 for even routing",
    ),
    "load_cv": Term(
        name="variation of load",
        sentence="How unevenly load is spread over a site's experts; 0 is even. Small inputs are uneven by chance.",
        formula="standard deviation of load / mean load, over all E experts",
    ),
    "max_over_mean": Term(
        name="fullest over mean",
        sentence="How much the fullest expert took, compared with the mean; 1 is even, E is everything in one expert.",
        formula="largest load / mean load",
    ),
    # Against what.
    "reference": Term(
        name="reference load",
        sentence="The model's own load on its test set, for an input of this size.",
        formula="patches * kept / patches of the test set (requested instead of kept where experts are never full)",
        source="routing_reference.json of the model, written when it was evaluated",
    ),
    "chance_band": Term(
        name="chance band",
        sentence="Where 95% of inputs of this size would lie if every patch decided by itself at the test set's rates. "
        "Real patches resemble their neighbours, so real inputs leave it more often.",
        formula="2.5% and 97.5% quantiles of Binomial(patches, load per patch of the test set); of 1,000 such draws "
        "for numbers that are no counts",
    ),
    # The model's output.
    "loss": Term(
        name="loss",
        sentence="How surprised the model was by the next unit, per token.",
        formula="-ln p(next token)",
        unit="nats",
    ),
    "bits_per_byte": Term(
        name="bits per byte",
        sentence="Loss of a text per byte, which does not depend on the tokenizer.",
        formula="sum of losses / (ln 2 * UTF-8 bytes)",
        unit="bits per byte",
    ),
    "probability": Term(
        name="probability",
        sentence="The model's probability of a class or of a token, over all classes or the whole vocabulary.",
        unit="probability",
    ),
    # Two runs side by side.
    "load_difference": Term(
        name="load difference",
        sentence="How much more (or less) an expert took in run B than in run A; 0 is the same.",
        formula="relative load (or another measure) in B - in A",
    ),
    "changed_route": Term(
        name="changed route",
        sentence="A unit that another expert took first, or other experts took, in run B than in run A.",
        formula="first kept expert, or set of kept experts, differs",
        unit="units",
    ),
    "changed_first": Term(
        name="changed first choices",
        sentence="Which part of the units both runs share had another first kept expert in run B.",
        formula="units whose first kept expert differs / shared units, mean over sites",
        unit="share",
    ),
    **MODEL_TERMS,
}

TERMS: Final[Mapping[str, Term]] = MappingProxyType(_TERMS)
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
        "step_seconds": "training_seconds",
        "test_loss_low": "test_loss",
        "test_loss_high": "test_loss",
        "test_loss_sd": "test_loss",
        "requested_multiply_adds": "multiply_adds",
        "kept_multiply_adds": "multiply_adds",
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
