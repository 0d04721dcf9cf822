"""Recorded inputs and outputs of the authors' code, replayed.

    python -m tests.uoe_model.reference.golden CHECKPOINT FILE...

Every case of a file is compared under every target recorded for it: forced ids, lowest-index ties, torch's ties, and
where recorded the float64 numbers, filler switched off, and gradients. Ids must be equal; the tolerances are those
suggested beside the recordings.
"""

import dataclasses
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from uoe_model.reference import blocks, language
from uoe_model.reference.blocks import How, Routed
from uoe_model.reference.classifier import ReferenceClassifier
from uoe_model.reference.quirks import Quirks

FORCED, LOWEST, TORCH, NO_FILLER = "forced ids", "lowest-index ties", "torch ties", "filler off"
LOGITS, HIDDEN, Y, GATES, GRADIENT, RELATIVE = 1e-5, 1e-4, 2e-5, 5e-5, 1e-4, 1e-4


@dataclasses.dataclass(frozen=True, kw_only=True)
class Compared:
    """One number of one case under one target; `error` is the largest difference, of ids how many differ."""

    case: str
    target: str
    what: str
    error: float
    allowed: float

    @property
    def is_right(self) -> bool:
        return self.error <= self.allowed


Case = Mapping[str, Any]


def read_cases(path: Path) -> dict[str, Case]:
    """Arrays of every case by name; nothing is unpickled."""
    with np.load(path, allow_pickle=False) as file:
        names = [str(name) for name in file["cases"]]
        return {
            name: {key.removeprefix(f"{name}/"): file[key] for key in file.files if key.startswith(f"{name}/")}
            for name in names
        } | {
            name: {key.removeprefix(f"{name}/"): file[key] for key in file.files if key.startswith(f"{name}/")}
            for name in {key.split("/")[0] for key in file.files if key.startswith("grad_")}
        }


def replay(name: str, case: Case, cases: Mapping[str, Case], model: ReferenceClassifier) -> Iterator[Compared]:
    """Compare everything that was recorded of one case."""
    if "input_ids" in case and name.startswith("grad_"):
        yield from _classifier_gradients(name, case, case, model)
    elif name.startswith("grad_"):
        yield from _classifier_gradients(name, case, cases["ext_" + name.removeprefix("grad_")], model)
    elif "input_ids" in case:
        yield from _classifier(name, case, model)
    elif name.startswith("blk_es"):
        yield from _expert_selection(name, case)
    elif name.startswith("blk_"):
        yield from _block(name, case)
    elif name.startswith("lm_"):
        yield from _language_model(name, case)
    elif name.endswith("_stack"):
        yield from _stack(name, case)
    elif name.startswith("es_"):
        yield from _sample_mlp(name, case)
    elif name.startswith(("smha_", "ds_")):
        yield from _language_block(name, case)
    else:
        raise ValueError(f"case {name!r} is of no known kind")


def _tensor(array: Any) -> Tensor:
    return torch.from_numpy(np.asarray(array))


def _ids(array: Any) -> Tensor:
    return _tensor(array).long()


def _off(name: str, target: str, what: str, found: Tensor, expected: Any, allowed: float) -> Compared:
    wanted = _tensor(expected).double()
    error = float("inf")
    if found.shape == wanted.shape:
        error = float((found.detach().double() - wanted).abs().max()) if wanted.numel() else 0.0
    return Compared(case=name, target=target, what=what, error=error, allowed=allowed)


def _same(name: str, target: str, what: str, found: Tensor, expected: Any) -> Compared:
    wanted = _ids(expected)
    different = float("inf") if found.shape != wanted.shape else float((found != wanted).sum())
    return Compared(case=name, target=target, what=what, error=different, allowed=0.0)


def _targets(case: Case, sites: list[str], suffix: str = "_seq_ids") -> Iterator[tuple[str, How, str]]:
    """Name of the target, how to route, and what its keys end with."""
    forced = {site: _ids(case[f"{key}"]) for site, key in zip(sites, _keys(sites, suffix), strict=True)}
    yield FORCED, How(forced=forced), ""
    if any(key.endswith("_lowest_index_ties") for key in case):
        yield LOWEST, How(ties="lowest"), "_lowest_index_ties"
    yield TORCH, How(ties="torch"), ""


def _keys(sites: list[str], suffix: str) -> list[str]:
    return [f"{site}{suffix}" if site else suffix.removeprefix("_") for site in sites]


def _classifier(name: str, case: Case, model: ReferenceClassifier) -> Iterator[Compared]:
    ids, mask = _ids(case["input_ids"]), _ids(case["mask"]) if "mask" in case else None
    sites = [f"l{layer}_{block}" for layer in range(model.num_layers) for block in ("attn", "mlp")]
    for target, how, ending in _targets(case, sites):
        with torch.inference_mode():
            found = model(ids, mask, how)
        yield _off(name, target, "logits", found.logits_BV, case[f"logits{ending}"], LOGITS)
        oracle = f"logits_oracle64{ending}"
        if oracle in case and target != TORCH:
            yield _off(name, target, "logits against float64", found.logits_BV, case[oracle], LOGITS)
        for site, routed in zip(sites, found.sites, strict=True):
            yield _same(name, target, f"{site} ids", routed.slots.ids_EBL, case[f"{site}_seq_ids{ending}"])
            if not ending:
                gate = routed.requests
                yield _off(name, target, f"{site} gate", gate.gate_BSE, case[f"{site}_gate"], GATES)
                yield _off(name, target, f"{site} gate logits", gate.logits_BSE, case[f"{site}_gate_logits"], GATES)
        if not ending:
            yield _off(name, target, "pooled", found.pooled_BD, case["pooled"], HIDDEN)
            for key, value in found.hidden.items():
                if key in case:
                    yield _off(name, target, key, value, case[key], HIDDEN)
    if "logits_oracle64_padding_off" in case:
        how = How(quirks=Quirks(filler=False))
        with torch.inference_mode():
            found = model(ids, mask, how)
        yield _off(name, NO_FILLER, "logits", found.logits_BV, case["logits_oracle64_padding_off"], LOGITS)


def _classifier_gradients(name: str, case: Case, given: Case, model: ReferenceClassifier) -> Iterator[Compared]:
    leaves = {key: value.clone().requires_grad_() for key, value in model.parameters.items()}
    copy = dataclasses.replace(model, parameters=leaves)
    found = copy(_ids(given["input_ids"]), _ids(given["mask"]) if "mask" in given else None, How())
    labels = case["labels"] if "labels" in case else given["labels"]
    F.cross_entropy(found.logits_BV, _ids(labels)).backward()
    without = {key for key, value in leaves.items() if value.grad is None}
    if "params_without_gradient" in case:
        recorded = {str(key) for key in case["params_without_gradient"]}
        error = float(len(without ^ recorded))
        yield Compared(case=name, target=TORCH, what="parameters without gradient", error=error, allowed=0)
    for key, value in case.items():
        parameter = leaves.get(key.removeprefix("grad/"))
        if parameter is not None and parameter.grad is not None:
            yield _off(name, TORCH, f"gradient of {key}", parameter.grad[: len(value)], value, GRADIENT)


def _leaves(case: Case) -> dict[str, Tensor]:
    return {
        key.removeprefix("param/"): _tensor(value).clone().requires_grad_()
        for key, value in case.items()
        if key.startswith("param/")
    }


def _gradients(
    name: str, target: str, case: Case, out: Tensor, leaves: Mapping[str, Tensor], x: Tensor
) -> Iterator[Compared]:
    """Gradients of sum(y * grad_r)."""
    if "grad_r" not in case:
        return
    (out * _tensor(case["grad_r"])).sum().backward()
    if "grad_x" in case and x.grad is not None:
        yield _off(name, target, "gradient of x", x.grad, case["grad_x"], GRADIENT * _size(case["grad_x"]))
    for key, value in case.items():
        leaf = leaves.get(key.removeprefix("grad/")) if key.startswith("grad/") else None
        if leaf is not None:
            found = torch.zeros_like(leaf) if leaf.grad is None else leaf.grad
            yield _off(name, target, f"gradient of {key}", found, value, GRADIENT * _size(value))
    if "params_without_gradient" in case:
        # Parameters that the released code has and never uses need not be among the recorded ones.
        recorded = {str(key) for key in case["params_without_gradient"]} & set(leaves)
        without = {key for key, leaf in leaves.items() if leaf.grad is None}
        error = float(len(without ^ recorded))
        yield Compared(case=name, target=target, what="parameters without gradient", error=error, allowed=0)


def _size(array: Any) -> float:
    return max(1.0, float(np.abs(np.asarray(array)).max()))


def _block(name: str, case: Case) -> Iterator[Compared]:
    for target, how, ending in _targets(case, [""]):
        leaves, x = _leaves(case), _tensor(case["x"]).clone().requires_grad_()
        mask = _ids(case["mask"]) if "mask" in case else torch.ones(x.shape[:2], dtype=torch.long)
        if name.startswith("blk_smha"):
            heads, top_k = int(case["cfg/num_heads"]), int(case["cfg/attn_topk"])
            routed = blocks.attention(x, mask, leaves, top_k=top_k, num_heads=heads, how=how)
        elif name.startswith("blk_mlp2"):
            routed = blocks.mlp_v2(x, mask, leaves, top_k=int(case["cfg/topk"]), how=how)
        else:
            routed = blocks.mlp_v3(x, leaves, top_k=int(case["cfg/topk"]), how=how)
        yield from _routed(name, target, ending, case, routed, routed.out_BSD)
        if not ending:
            yield from _gradients(name, target, case, routed.out_BSD, leaves, x)


def _routed(name: str, target: str, ending: str, case: Case, routed: Routed, out: Tensor) -> Iterator[Compared]:
    if f"y{ending}" in case:
        yield _off(name, target, "y", out, case[f"y{ending}"], Y)
    yield _same(name, target, "ids", routed.slots.ids_EBL, case[f"seq_ids{ending}"])
    if not ending and "gate" in case:
        yield _off(name, target, "gate", routed.requests.gate_BSE, case["gate"], GATES)


def _expert_selection(name: str, case: Case) -> Iterator[Compared]:
    leaves, x = _leaves(case), _tensor(case["x"]).clone().requires_grad_()
    out, p, chosen = blocks.expert_selection(x, leaves, top_k=int(case["cfg/topk"]))
    yield _off(name, TORCH, "y", out, case["y"], Y)
    yield _off(name, TORCH, "route_prob", p, case["route_prob"], GATES)
    yield _off(name, TORCH, "assignment", chosen, case["assignment"], 0)
    yield from _gradients(name, TORCH, case, out, leaves, x)


def _sample_mlp(name: str, case: Case) -> Iterator[Compared]:
    leaves, x = _leaves(case), _tensor(case["x"]).clone().requires_grad_()
    top_k = int(case["cfg/topk"]) if "cfg/topk" in case else len(leaves["switch.weight"])
    out, p = language.mlp_es(x, leaves, top_k=top_k, post_norm="prenorm" not in name)
    yield _off(name, TORCH, "y", out, case["y"], Y)
    yield _off(name, TORCH, "route_prob", p, case["route_prob"], GATES)
    yield from _gradients(name, TORCH, case, out, leaves, x)


def _language_block(name: str, case: Case) -> Iterator[Compared]:
    post_norm = "prenorm" not in name
    has_memory = "mem_seq_ids" in case
    for target, how, ending in _targets(case, [""]):
        if "degenerate" in name and target != FORCED:
            continue  # what is dropped there is rounding noise
        if has_memory and target == FORCED:
            how = dataclasses.replace(how, forced={**how.forced, "_mem": _ids(case["mem_seq_ids"])})
        leaves, x = _leaves(case), _tensor(case["x"]).clone().requires_grad_()
        if name.startswith("ds_"):
            routed = language.mlp_ds(x, leaves, post_norm=post_norm, how=how)
            out = routed.out_BSD
        else:
            memory = _tensor(case["mems"]).transpose(0, 1) if "mems" in case else None
            attended = language.attention(
                x, _tensor(case["mask"]), leaves, memory_BMD=memory, post_norm=post_norm, how=how
            )
            routed, out = attended.routed, attended.out_BSD
            if attended.memory is not None:
                slots, requests = attended.memory.slots, attended.memory.requests
                yield _same(name, target, "memory ids", slots.ids_EBL, case[f"mem_seq_ids{ending}"])
                if "mem_gate" in case:
                    yield _off(name, target, "memory gate", requests.gate_BSE, case["mem_gate"], GATES)
        yield from _routed(name, target, ending, case, routed, out)
        if not ending:
            yield from _gradients(name, target, case, out, leaves, x)


def _stack(name: str, case: Case) -> Iterator[Compared]:
    """Decoder layers one after another, sequence first."""
    leaves = _leaves(case)
    numbers = sorted({int(key.split(".")[1]) for key in leaves if key.startswith("layers.")})
    prefixes = [f"layers.{number}." for number in numbers] or [
        f"{number}." for number in sorted({int(key.split(".")[0]) for key in leaves})
    ]
    sites = [f"l{layer}_{block}" for layer in range(len(prefixes)) for block in ("attn", "mlp")]
    sites = [site for site in sites if f"{site}_seq_ids" in case]
    for target, how, ending in _targets(case, sites):
        x = _tensor(case["x"]).clone().requires_grad_()
        value = x
        mask = _tensor(case["mask"]) if "mask" in case else torch.triu(torch.ones(len(x), len(x)), 1)
        for layer, prefix in enumerate(prefixes):
            own = {key.removeprefix(prefix): leaf for key, leaf in leaves.items() if key.startswith(prefix)}
            result = language.decoder_layer(
                value, mask, own, post_norm="prenorm" not in name, how=how, site=f"l{layer}"
            )
            value = result.out_SBD
            yield from _layer(name, target, ending, case, result, layer, f"l{layer}")
        yield _off(name, target, "y", value, case[f"y{ending}"], Y)
        if not ending:
            yield from _gradients(name, target, case, value, leaves, x)


def _layer(
    name: str, target: str, ending: str, case: Case, result: language.LayerOutput, layer: int, at: str
) -> Iterator[Compared]:
    parts = {"attn": result.attention.routed, "attn_mem": result.attention.memory, "mlp": result.mlp}
    for part, routed in parts.items():
        key = f"{at}_{part}"
        if routed is not None and f"{key}_seq_ids{ending}" in case:
            yield _same(name, target, f"{key} ids", routed.slots.ids_EBL, case[f"{key}_seq_ids{ending}"])
        if routed is not None and not ending and f"{key}_gate" in case:
            yield _off(name, target, f"{key} gate", routed.requests.gate_BSE, case[f"{key}_gate"], GATES)
    del layer


def _language_model(name: str, case: Case) -> Iterator[Compared]:
    """Consecutive segments, each with the memory of the one before."""
    leaves = {key: value.detach() for key, value in _leaves(case).items()}
    leaves.setdefault("word_emb.emb_layers.0.weight", leaves.get("crit.out_layers.0.weight", torch.zeros(0)))
    post_norm = "prenorm" not in name
    memory_length = int(name.rsplit("mem", 1)[1]) if "mem" in name else 0
    segments = sorted({key.split("/")[0] for key in case if key.startswith("seg") and "/" in key})
    data = _ids(case["data"])
    length = case[f"{segments[0]}/loss"].shape[0]
    target_ids = _ids(case["target"]) if "target" in case else data[1:]
    has_lowest = any(key.endswith("_lowest_index_ties") for key in case)
    for target in (FORCED, *((LOWEST,) if has_lowest else ()), TORCH):
        ending = "_lowest_index_ties" if target == LOWEST else ""
        memory: tuple[Tensor, ...] = ()
        for number, segment in enumerate(segments):
            own = {
                key.removeprefix(f"{segment}/"): value for key, value in case.items() if key.startswith(f"{segment}/")
            }
            forced = {
                key.removesuffix("_seq_ids"): _ids(value) for key, value in own.items() if key.endswith("_seq_ids")
            }
            how = How(forced=forced if target == FORCED else {}, ties="lowest" if target == LOWEST else "torch")
            start = number * length
            with torch.inference_mode():
                result = language.run_segment(
                    data[start : start + length],
                    target_ids[start : start + length],
                    memory,
                    leaves,
                    memory_length=memory_length,
                    post_norm=post_norm,
                    how=how,
                )
            at = f"{name} {segment}"
            for key, found in (
                [("loss", result.loss_SB)]
                + [(f"layer{layer}_out", one.out_SBD) for layer, one in enumerate(result.layers)]
                + [(f"mems{layer}", one) for layer, one in enumerate(result.memory)]
            ):
                if f"{key}{ending}" in own:
                    allowed = (
                        LOGITS
                        if post_norm and key == "loss"
                        else Y
                        if post_norm
                        else RELATIVE * _size(own[f"{key}{ending}"])
                    )
                    yield _off(at, target, key, found, own[f"{key}{ending}"], allowed)
            for layer, one in enumerate(result.layers):
                yield from _layer(at, target, ending, own, one, layer, f"l{layer}")
            memory = result.memory


def main(arguments: list[str]) -> int:
    """Replay files and print a line per case and target."""
    from uoe_model.reference.checkpoint import load_reference

    model = load_reference(Path(arguments[0]))
    wrong = 0
    for path in map(Path, arguments[1:]):
        cases = read_cases(path)
        for name, case in cases.items():
            by_target: dict[tuple[str, str], list[Compared]] = {}
            for one in replay(name, case, cases, model):
                by_target.setdefault((one.case, one.target), []).append(one)
            for (case_name, target), found in by_target.items():
                bad = [one for one in found if not one.is_right]
                wrong += len(bad)
                print(
                    f"{'wrong' if bad else 'ok':5} {case_name:24} {target:18} {len(found):3} numbers",
                    *(f"{one.what}: {one.error:.2g} > {one.allowed:.2g};" for one in bad),
                )
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
