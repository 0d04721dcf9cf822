"""Terms of what became of requests: load, capacity, drops, ways through the sites."""

from typing import Final

from analysis.glossary.term import Term

OUTCOMES: Final[dict[str, Term]] = {
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
}
