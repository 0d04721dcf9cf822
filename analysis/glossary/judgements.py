"""Terms of how sure and how even routing is, what it is measured against, and what it is worth."""

from typing import Final

from analysis.glossary.term import SWITCH, Term

JUDGEMENTS: Final[dict[str, Term]] = {
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
    # What routing buys.
    "loss_change": Term(
        name="change of loss",
        sentence="How much worse the model predicts in the changed run. With learned routes replaced it says how far "
        "the experts depend on them, not that learning the routes helped.",
        formula="loss of run B - loss of run A; loss with replaced routes - loss with learned routes",
        unit="nats",
    ),
    "replacement": Term(
        name="replacement",
        sentence="What took the place of the learned routes: balanced random ones, the same ones permuted over units, "
        "those of the untrained router, or a lookup by token id or grid cell learned on other data.",
    ),
}
