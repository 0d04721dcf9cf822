"""Terms of what is counted and how a router decides."""

from typing import Final

from analysis.glossary.term import UNION, Term

DECISIONS: Final[dict[str, Term]] = {
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
}
