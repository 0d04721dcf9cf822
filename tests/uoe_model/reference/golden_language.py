"""Recorded cases of the released language model: its blocks alone, decoder layers, and whole segments with memory."""

from collections.abc import Iterator

import torch
from torch import Tensor

from tests.uoe_model.reference.recorded import (
    FORCED,
    GATES,
    LOGITS,
    LOWEST,
    LOWEST_ENDING,
    RELATIVE,
    TORCH,
    Case,
    Compared,
    Y,
    as_ids,
    as_tensor,
    gradients,
    leaves_of,
    off,
    routing,
    size,
    targets,
)
from uoe_model.reference import language
from uoe_model.reference.blocks import How


def sample_mlp(name: str, case: Case) -> Iterator[Compared]:
    """UoME_ES alone."""
    leaves, x = leaves_of(case), as_tensor(case["x"]).clone().requires_grad_()
    top_k = int(case["cfg/topk"]) if "cfg/topk" in case else len(leaves["switch.weight"])
    out, p = language.mlp_es(x, leaves, top_k=top_k, post_norm="prenorm" not in name)
    yield off(name, TORCH, "y", out, case["y"], Y)
    if "route_prob" in case:
        yield off(name, TORCH, "route_prob", p, case["route_prob"], GATES)
    yield from gradients(name, TORCH, case, out, leaves, {"x": x})


def language_block(name: str, case: Case) -> Iterator[Compared]:
    """SMHA_v3 or UoME_DS alone."""
    post_norm = "prenorm" not in name
    for target, how, ending in targets(case, {"": "seq_ids", "_mem": "mem_seq_ids"}):
        if "degenerate" in name and target != FORCED:
            continue  # what is dropped there is rounding noise
        leaves, x = leaves_of(case), as_tensor(case["x"]).clone().requires_grad_()
        inputs = {"x": x}
        if name.startswith("ds_"):
            routed = language.mlp_ds(x, leaves, post_norm=post_norm, how=how)
            out = routed.out_BSD
        else:
            memory = None
            if "mems" in case:
                inputs["mems"] = as_tensor(case["mems"]).clone().requires_grad_()
                memory = inputs["mems"].transpose(0, 1)
            attended = language.attention(
                x, _mask(case["mask"]), leaves, memory_BMD=memory, post_norm=post_norm, how=how
            )
            routed, out = attended.routed, attended.out_BSD
            yield from routing(name, target, ending, case, "mem", attended.memory)
        if f"y{ending}" in case:
            yield off(name, target, "y", out, case[f"y{ending}"], _allowed(case[f"y{ending}"], post_norm, Y))
        yield from routing(name, target, ending, case, "", routed)
        if not ending:
            yield from gradients(name, target, case, out, leaves, inputs)


def stack(name: str, case: Case) -> Iterator[Compared]:
    """Decoder layers one after another, sequence first."""
    parts = [key.partition("dec_attn.") for key in leaves_of(case)]
    prefixes = sorted({before for before, found, _ in parts if found}, key=lambda one: (len(one), one))
    sites = [f"l{layer}_{block}" for layer in range(len(prefixes)) for block in ("attn", "mlp")]
    post_norm = "prenorm" not in name
    for target, how, ending in targets(case, {site: f"{site}_seq_ids" for site in sites}):
        leaves, x = leaves_of(case), as_tensor(case["x"]).clone().requires_grad_()
        mask = _mask(case["mask"]) if "mask" in case else torch.triu(torch.ones(len(x), len(x)), 1)
        value = x
        for layer, prefix in enumerate(prefixes):
            own = {key.removeprefix(prefix): leaf for key, leaf in leaves.items() if key.startswith(prefix)}
            result = language.decoder_layer(value, mask, own, post_norm=post_norm, how=how, site=f"l{layer}")
            value = result.out_SBD
            yield from _layer(name, target, ending, case, result, layer, post_norm)
        if f"y{ending}" in case:
            yield off(name, target, "y", value, case[f"y{ending}"], _allowed(case[f"y{ending}"], post_norm, Y))
        if not ending:
            yield from gradients(name, target, case, value, leaves, {"x": x})


def language_model(name: str, case: Case) -> Iterator[Compared]:
    """Consecutive segments, each with the memory of the one before."""
    leaves = {key: value.detach() for key, value in leaves_of(case).items()}
    post_norm = "prenorm" not in name
    memory_length = int(name.rsplit("mem", 1)[1])
    segments = sorted({key.split("/")[0] for key in case if key.startswith("seg") and "/" in key})
    data = as_ids(case["data"])
    wanted = as_ids(case["target"]) if "target" in case else data[1:]
    has_lowest = any(key.endswith(LOWEST_ENDING) for key in case)
    for target in (FORCED, *((LOWEST,) if has_lowest else ()), TORCH):
        ending = LOWEST_ENDING if target == LOWEST else ""
        memory: tuple[Tensor, ...] = ()
        start = 0
        for segment in segments:
            own = case.under(f"{segment}/")
            end = start + len(own["loss"])
            forced = {}
            if target == FORCED:
                forced = {key.removesuffix("_seq_ids"): as_ids(own[key]) for key in own if key.endswith("_seq_ids")}
            with torch.inference_mode():
                result = language.run_segment(
                    data[start:end],
                    wanted[start:end],
                    memory,
                    leaves,
                    memory_length=memory_length,
                    post_norm=post_norm,
                    how=How(forced=forced, ties="lowest" if target == LOWEST else "torch"),
                )
            at = f"{name} {segment}"
            if f"loss{ending}" in own:
                expected = own[f"loss{ending}"]
                allowed = LOGITS if post_norm else RELATIVE * size(expected)
                yield off(at, target, "loss", result.loss_SB, expected, allowed)
            for number, one in enumerate(result.memory):
                if f"mems{number}{ending}" in own:
                    expected = own[f"mems{number}{ending}"]
                    yield off(at, target, f"mems{number}", one, expected, _allowed(expected, post_norm))
            for layer, output in enumerate(result.layers):
                yield from _layer(at, target, ending, own, output, layer, post_norm)
            memory, start = result.memory, end


def _layer(
    name: str, target: str, ending: str, case: Case, result: language.LayerOutput, layer: int, post_norm: bool
) -> Iterator[Compared]:
    key = f"layer{layer}_out{ending}"
    if key in case:
        yield off(name, target, f"layer{layer}_out", result.out_SBD, case[key], _allowed(case[key], post_norm))
    for part, routed in {
        "attn": result.attention.routed,
        "attn_mem": result.attention.memory,
        "mlp": result.mlp,
    }.items():
        yield from routing(name, target, ending, case, f"l{layer}_{part}", routed, relative=not post_norm)


def _mask(array: object) -> Tensor:
    """(S, M + S), also where the batch has an axis of its own at the end."""
    mask = as_tensor(array)
    return mask.reshape(mask.shape[:2])


def _allowed(array: object, post_norm: bool, relative: float = RELATIVE) -> float:
    """Without a norm values grow from layer to layer, and with them the rounding."""
    return Y if post_norm else relative * size(array)
