"""Recorded inputs and outputs of the authors' code, replayed.

    python -m tests.uoe_model.reference.golden CHECKPOINT FILE...

Every case of a file is compared under every target recorded for it: forced ids, lowest-index ties, torch's ties, and
where recorded the float64 numbers, filler switched off, and gradients. Ids must be equal; the tolerances are those
suggested beside the recordings. Arrays that nothing was compared with are named.
"""

import dataclasses
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import torch
import torch.nn.functional as F

from tests.uoe_model.reference.golden_language import language_block, language_model, sample_mlp, stack
from tests.uoe_model.reference.recorded import (
    GATES,
    HIDDEN,
    LOGITS,
    NO_FILLER,
    TORCH,
    Case,
    Compared,
    Y,
    as_ids,
    as_tensor,
    gradients,
    leaves_of,
    off,
    parameter_gradients,
    read_cases,
    routing,
    targets,
)
from uoe_model.reference import blocks
from uoe_model.reference.blocks import How
from uoe_model.reference.checkpoint import load_reference
from uoe_model.reference.classifier import ReferenceClassifier
from uoe_model.reference.quirks import Quirks


def replay(name: str, case: Case, cases: Mapping[str, Case], model: ReferenceClassifier) -> Iterator[Compared]:
    """Compare everything that was recorded of one case."""
    if name.startswith("grad_"):
        given = case if "input_ids" in case else cases["ext_" + name.removeprefix("grad_")]
        yield from _classifier_gradients(name, case, given, model)
    elif "input_ids" in case:
        yield from _classifier(name, case, model)
    elif name.startswith("blk_es"):
        yield from _expert_selection(name, case)
    elif name.startswith("blk_"):
        yield from _block(name, case)
    elif name.startswith("lm_"):
        yield from language_model(name, case)
    elif name.endswith("_stack"):
        yield from stack(name, case)
    elif name.startswith("es_"):
        yield from sample_mlp(name, case)
    elif name.startswith(("smha_", "ds_")):
        yield from language_block(name, case)
    else:
        raise ValueError(f"case {name!r} is of no known kind")


def _classifier(name: str, case: Case, model: ReferenceClassifier) -> Iterator[Compared]:
    ids, mask = as_ids(case["input_ids"]), as_ids(case["mask"]) if "mask" in case else None
    sites = [f"l{layer}_{block}" for layer in range(model.num_layers) for block in ("attn", "mlp")]
    for target, how, ending in targets(case, {site: f"{site}_seq_ids" for site in sites}):
        with torch.inference_mode():
            found = model(ids, mask, how)
        yield off(name, target, "logits", found.logits_BV, case[f"logits{ending}"], LOGITS)
        oracle = f"logits_oracle64{ending}"
        if oracle in case and target != TORCH:
            yield off(name, target, "logits against float64", found.logits_BV, case[oracle], LOGITS)
        for site, routed in zip(sites, found.sites, strict=True):
            yield from routing(name, target, ending, case, site, routed)
        if not ending:
            rotated = {
                key.replace("norm1", "attn_gate_in"): blocks.rotate_input(value, model.num_experts("attention"))
                for key, value in found.hidden.items()
                if key.endswith("_norm1")
            }
            for key, value in {"pooled": found.pooled_BD, **found.hidden, **rotated}.items():
                if key in case:
                    yield off(name, target, key, value, case[key], HIDDEN)
    if "logits_oracle64_padding_off" in case:
        with torch.inference_mode():
            found = model(ids, mask, How(quirks=Quirks(filler=False)))
        yield off(name, NO_FILLER, "logits", found.logits_BV, case["logits_oracle64_padding_off"], LOGITS)


def _classifier_gradients(name: str, case: Case, given: Case, model: ReferenceClassifier) -> Iterator[Compared]:
    leaves = {key: value.clone().requires_grad_() for key, value in model.parameters.items()}
    copy = dataclasses.replace(model, parameters=leaves)
    found = copy(as_ids(given["input_ids"]), as_ids(given["mask"]) if "mask" in given else None, How())
    labels = case["labels"] if "labels" in case else given["labels"]
    loss = F.cross_entropy(found.logits_BV, as_ids(labels))
    loss.backward()
    if "loss" in case:
        yield off(name, TORCH, "loss", loss, case["loss"], LOGITS)
    yield from parameter_gradients(name, TORCH, case, leaves)


def _block(name: str, case: Case) -> Iterator[Compared]:
    for target, how, ending in targets(case, {"": "seq_ids"}):
        leaves, x = leaves_of(case), as_tensor(case["x"]).clone().requires_grad_()
        mask = as_ids(case["mask"]) if "mask" in case else torch.ones(x.shape[:2], dtype=torch.long)
        if name.startswith("blk_smha"):
            heads, top_k = int(case["cfg/num_heads"]), int(case["cfg/attn_topk"])
            routed = blocks.attention(x, mask, leaves, top_k=top_k, num_heads=heads, how=how)
        elif name.startswith("blk_mlp2"):
            routed = blocks.mlp_v2(x, mask, leaves, top_k=int(case["cfg/topk"]), how=how)
        else:
            routed = blocks.mlp_v3(x, leaves, top_k=int(case["cfg/topk"]), how=how)
        if f"y{ending}" in case:
            yield off(name, target, "y", routed.out_BSD, case[f"y{ending}"], Y)
        yield from routing(name, target, ending, case, "", routed)
        if not ending:
            yield from gradients(name, target, case, routed.out_BSD, leaves, {"x": x})


def _expert_selection(name: str, case: Case) -> Iterator[Compared]:
    leaves, x = leaves_of(case), as_tensor(case["x"]).clone().requires_grad_()
    out, p, chosen = blocks.expert_selection(x, leaves, top_k=int(case["cfg/topk"]))
    yield off(name, TORCH, "y", out, case["y"], Y)
    yield off(name, TORCH, "route_prob", p, case["route_prob"], GATES)
    yield off(name, TORCH, "assignment", chosen, case["assignment"], 0)
    yield from gradients(name, TORCH, case, out, leaves, {"x": x})


def main(arguments: list[str]) -> int:
    """Replay files and print a line per case and target."""
    model = load_reference(Path(arguments[0]))
    files = [read_cases(Path(path)) for path in arguments[1:]]
    everything = {name: case for cases in files for name, case in cases.items()}
    wrong = 0
    for name, case in ((name, case) for cases in files for name, case in cases.items()):
        by_target: dict[tuple[str, str], list[Compared]] = {}
        for one in replay(name, case, everything, model):
            by_target.setdefault((one.case, one.target), []).append(one)
        for (case_name, target), found in by_target.items():
            bad = [one for one in found if not one.is_right]
            wrong += len(bad)
            print(
                f"{'wrong' if bad else 'ok':5} {case_name:24} {target:18} {len(found):3} numbers",
                *(f"{one.what}: {one.error:.2g} > {one.allowed:.2g};" for one in bad),
            )
        if not by_target:
            wrong += 1
            print(f"wrong {name:24} nothing could be compared")
        if case.unread():
            print(f"      {name:24} not compared: {', '.join(case.unread())}")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
