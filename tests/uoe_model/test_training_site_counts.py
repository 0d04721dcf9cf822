"""Reference loads against a slow loop, and costs by hand."""

from collections import Counter

import numpy as np
import pytest
import torch

from tests.uoe_model.models import build_classifier, build_lm, causal_router, free_router, pad, tokens
from uoe_model.training.cost import multiply_adds, parameter_counts
from uoe_model.training.site_counts import SiteCounter, reference_json, site_name


@pytest.mark.parametrize("patch_len", [1, 4])
def test_counts_equal_a_slow_loop_over_valid_patches(patch_len: int):
    router = causal_router(patch_len=patch_len)
    model = build_lm(attention_router=router, mlp_router=router | {"num_experts": 8})
    counter = SiteCounter(model.config)
    batches = [pad([tokens(size, seed=size) for size in sizes], "right") for sizes in ((20, 7, 33), (41,))]
    outputs = []
    with torch.no_grad():
        for ids, mask in batches:
            outputs.append(model(input_ids=ids, attention_mask=mask))
            counter.watch(list(range(len(ids))), mask != 0, outputs[-1])
    for site, counts in enumerate(counter.counts()):
        asked: Counter[int] = Counter()
        kept: Counter[int] = Counter()
        patches = dropped = 0
        entropies, variations = [], []
        for (ids, mask), output in zip(batches, outputs, strict=True):
            decision = output.decisions[site]
            for row in range(len(ids)):
                load: Counter[int] = Counter()
                for column in range(0, int(mask[row].sum()), patch_len):
                    unit = row * ids.shape[1] + column
                    experts, slots = decision.expert_NK[unit].tolist(), decision.kept_NK[unit].tolist()
                    asked.update(experts)
                    load.update(expert for expert, slot in zip(experts, slots, strict=True) if slot)
                    patches += 1
                    dropped += not any(slots)
                    p = decision.logits_NE[unit].softmax(0)
                    entropies.append(float(-(p * p.log()).sum()))
                kept.update(load)
                by_expert = np.array([load[expert] for expert in range(counts.kept.size)])
                variations.append(by_expert.std() / by_expert.mean())
        assert counts.name == site_name(site)
        assert counts.requested.tolist() == [asked[expert] for expert in range(counts.requested.size)]
        assert counts.kept.tolist() == [kept[expert] for expert in range(counts.kept.size)]
        assert (counts.patches, counts.dropped_units, counts.unrouted_units) == (patches, dropped, 0)
        assert counts.entropy == pytest.approx(np.mean(entropies))
        assert counts.within_cv == pytest.approx(np.mean(variations))
        assert counts.dropped_share == pytest.approx(1 - sum(kept.values()) / sum(asked.values()))
        assert counts.dropped_share > 0


def test_cells_nobody_picked_are_unrouted_not_dropped():
    router = free_router(selection="expert_choice")
    model = build_classifier(attention_router=router, mlp_router=router)
    counter = SiteCounter(model.config)
    output = model(pixel_values=torch.randn(2, 3, 8, 8, dtype=torch.float64))
    counter.watch([0, 1], torch.ones(2, 16, dtype=torch.bool), output)
    for site, counts in enumerate(counter.counts()):
        nobody = (output.decisions[site].expert_NK < 0).all(dim=1)
        assert counts.unrouted_units == int(nobody.sum())
        assert (counts.dropped_units, counts.dropped_share) == (0, 0)
    assert sum(counts.unrouted_units for counts in counter.counts()) > 0


def test_the_reference_has_the_keys_the_dashboard_reads():
    model = build_classifier()
    counter = SiteCounter(model.config)
    output = model(pixel_values=torch.randn(2, 3, 8, 8, dtype=torch.float64))
    counter.watch([0, 1], torch.ones(2, 16, dtype=torch.bool), output)
    reference = reference_json(counter.counts(), "synthetic")
    assert reference["dataset"] == "synthetic"
    assert [site["name"] for site in reference["sites"]] == ["L0.attention", "L0.mlp", "L1.attention", "L1.mlp"]
    for site in reference["sites"]:
        assert site["patches"] == 32
        assert sum(site["requested"]) == 64


def test_multiply_adds_of_a_text_model_by_hand():
    config = build_lm(mlp_router=causal_router(num_experts=8)).config  # D 16, F 32, E 4 and 8, k 2, V 29
    rows = {row.part: row for row in multiply_adds(config, units=9, kept_share={"attention": 0.5, "mlp": 0.75})}
    assert rows["attention projections"].dense == 2 * 4 * 16**2
    assert rows["attention projections"].requested == 2 * 4 * 16**2 / 2
    assert rows["attention projections"].kept == 2 * 4 * 16**2 / 4
    assert rows["attention scores and sums"].dense == 2 * 2 * 16 * 5
    assert rows["attention scores and sums"].requested == 2 * 2 * 16 * 5 / 4
    assert rows["mlp"].dense == 2 * 2 * 16 * 32
    assert rows["mlp"].kept == 2 * 2 * 16 * 32 * 0.25 * 0.75
    assert (rows["routers"].dense, rows["routers"].requested) == (0, 2 * 16 * (4 + 8))
    assert rows["output head"].dense == 16 * 29
    assert rows["total"].dense == sum(row.dense for name, row in rows.items() if name != "total")


def test_dense_multiply_adds_of_an_image_model_are_its_weights_used_once_per_unit():
    model = build_classifier(stem_channels=[6, 10], image_size=16, grid_size=4, num_labels=3)
    rows = {row.part: row for row in multiply_adds(model.config, units=16, kept_share={"attention": 1, "mlp": 1})}
    experts = sum(
        p.numel() for n, p in model.named_parameters() if n.rpartition(".")[2] in ("w_qkv", "w_o", "w1", "w2")
    )
    assert rows["attention projections"].dense + rows["mlp"].dense == experts
    first, second = model.stem.convolutions[0].weight.numel(), model.stem.convolutions[3].weight.numel()
    project = model.stem.project.weight.numel()
    assert rows["stem"].dense * 16 == 64 * first + 16 * second + 16 * project
    assert rows["classifier"].dense * 16 == model.classifier.weight.numel()


def test_parameters_are_counted_once():
    model = build_lm(mlp_router=causal_router(num_experts=8))
    counts = parameter_counts(model, model.config)
    assert counts["total"] == sum(p.numel() for p in model.parameters())
    assert counts["routers"] == 2 * 16 * (4 + 8)
    attention = 2 * 4 * (16 * 12 + 12 + 4 * 16)
    mlp = 2 * 8 * (16 * 4 + 4 + 4 * 16)
    assert (counts["attention experts"], counts["mlp experts"]) == (attention, mlp)
    assert counts["active per unit"] == counts["total"] - attention // 2 - mlp * 3 // 4
