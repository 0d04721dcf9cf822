"""Nobody else matters: an example alone, in a batch, padded left or right, or packed with others."""

from pathlib import Path

import pytest
import torch
from torch import Tensor

from tests.uoe_model.models import (
    assert_same_decisions,
    build_classifier,
    build_encoder,
    build_lm,
    causal_router,
    dropped,
    free_router,
    pad,
    tokens,
    units_of,
)
from uoe_model.errors import InputError
from uoe_model.modeling import UoEForImageClassification

TRAINED = Path(__file__).parents[2] / "uoe_model" / "pretrained" / "uoe-image"

LENGTHS = (50, 9, 17)
ROWS = [tokens(length, seed=length) for length in LENGTHS]

LOOKING_AHEAD = [
    pytest.param({}, id="score"),
    pytest.param({"gate_keys": True, "gate": "probability"}, id="key-gates"),
    pytest.param({"selection": "expert_choice"}, id="expert_choice"),
    pytest.param({"selection": "expert", "capacity_factor": None}, id="expert"),
]


def real(mask: Tensor, row: int) -> Tensor:
    """Flat unit numbers of one row's tokens."""
    return mask[row].nonzero().flatten() + row * mask.shape[1]


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("patch_len", [1, 4])
@pytest.mark.parametrize("position", ["rotary", "learned"])
@torch.no_grad()
def test_a_text_is_the_same_alone_and_padded_in_a_batch(position, patch_len, side):
    routers = {
        "attention_router": causal_router(patch_len=patch_len, gate_keys=True),
        "mlp_router": causal_router(patch_len=patch_len),
    }
    model = build_lm(**routers, position_embedding=position)
    alone = [model(input_ids=row[None]) for row in ROWS]
    assert sum(map(dropped, alone[0].decisions)) > 0
    for extra, filler in ((0, 1), (7, 13)):
        ids, mask = pad(ROWS, side, extra=extra, filler=filler)
        together = model(input_ids=ids, attention_mask=mask)
        for row, single in enumerate(alone):
            torch.testing.assert_close(together.logits[row][mask[row].bool()], single.logits[0], rtol=0, atol=1e-11)
            for decision, own in zip(together.decisions, single.decisions, strict=True):
                assert_same_decisions(units_of(decision, real(mask, row)), own)
                assert decision.capacity_G[row] == own.capacity_G[0]
        for decision in together.decisions:
            padding = (mask.flatten() == 0).nonzero().flatten()
            assert bool((decision.expert_NK[padding] == -1).all())
            assert not decision.kept_NK[padding].any()
            assert not decision.gate_NK[padding].any()


@pytest.mark.parametrize("side", ["left", "right"])
@torch.no_grad()
def test_in_single_precision_a_text_is_the_same_to_rounding(side):
    model = build_lm(dtype=torch.float32)
    ids, mask = pad(ROWS, side)
    together = model(input_ids=ids, attention_mask=mask)
    for row, tokens_T in enumerate(ROWS):
        single = model(input_ids=tokens_T[None])
        for decision, own in zip(together.decisions, single.decisions, strict=True):
            ranked = own.logits_NE.softmax(-1).sort(-1, descending=True).values
            assert (ranked[:, :2] - ranked[:, 1:3]).min() > 1e-4, "choose a seed without near-ties"
            assert torch.equal(decision.expert_NK[real(mask, row)], own.expert_NK)
        scale = single.logits.abs().max()
        difference = together.logits[row][mask[row].bool()] - single.logits[0]
        assert difference.abs().max() <= 1e-5 * scale


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("patch_len", [1, 3])
@pytest.mark.parametrize("router", LOOKING_AHEAD)
@torch.no_grad()
def test_an_example_that_looks_ahead_is_the_same_alone_and_padded_in_a_batch(router, patch_len, side):
    fields = free_router(**router, patch_len=patch_len)
    model = build_encoder(attention_router=fields, mlp_router=fields)
    ids, mask = pad(ROWS, side, extra=5, filler=13)
    together = model.encode(input_ids=ids, attention_mask=mask)
    start = 0
    for row in ROWS:
        single = model.encode(input_ids=row[None])
        units = torch.arange(start, start + len(row))
        start += len(row)
        torch.testing.assert_close(together.last_hidden_state[units], single.last_hidden_state, rtol=0, atol=1e-11)
        for decision, own in zip(together.decisions, single.decisions, strict=True):
            asked = (own.expert_NK >= 0).sum(-1)
            assert torch.equal((decision.expert_NK[units] >= 0).sum(-1), asked)
            columns = own.expert_NK.shape[1]
            assert torch.equal(decision.expert_NK[units][:, :columns], own.expert_NK)
            assert torch.equal(decision.kept_NK[units][:, :columns], own.kept_NK)


@pytest.mark.parametrize("router", LOOKING_AHEAD)
@torch.no_grad()
def test_an_image_is_the_same_alone_and_in_a_batch(router):
    model = build_classifier(attention_router=free_router(**router), mlp_router=free_router(**router))
    pixels = torch.randn(4, 3, 8, 8, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    together = model(pixel_values=pixels)
    for row in range(4):
        single = model(pixel_values=pixels[row : row + 1])
        torch.testing.assert_close(together.logits[row], single.logits[0], rtol=0, atol=1e-11)
        for decision, own in zip(together.decisions, single.decisions, strict=True):
            columns = own.expert_NK.shape[1]
            assert torch.equal(decision.expert_NK[row * 16 : row * 16 + 16, :columns], own.expert_NK)


@pytest.mark.skipif(not (TRAINED / "model.safetensors").exists(), reason="no bundled image checkpoint yet")
@torch.no_grad()
def test_an_image_is_the_same_alone_and_in_a_batch_with_trained_weights():
    model = UoEForImageClassification.from_pretrained(TRAINED, dtype=torch.float64).eval()
    side = model.config.image_size
    pixels = torch.randn(3, 3, side, side, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    together = model(pixel_values=pixels)
    cells = model.config.grid_size**2
    assert sum(map(dropped, together.decisions)) > 0
    for row in range(3):
        single = model(pixel_values=pixels[row : row + 1])
        torch.testing.assert_close(together.logits[row], single.logits[0], rtol=0, atol=1e-10)
        for decision, own in zip(together.decisions, single.decisions, strict=True):
            assert_same_decisions(units_of(decision, torch.arange(cells) + row * cells), own)


@pytest.mark.parametrize("side", ["left", "right"])
@torch.no_grad()
def test_the_loss_of_a_text_does_not_depend_on_its_padding(side):
    model = build_lm()
    ids, mask = pad(ROWS, side, extra=3)
    together = model(input_ids=ids, attention_mask=mask, labels=ids).cross_entropy
    alone = [model(input_ids=row[None], labels=row[None]).cross_entropy for row in ROWS]
    predicted = [len(row) - 1 for row in ROWS]
    total = sum(loss.item() * count for loss, count in zip(alone, predicted, strict=True))
    assert together.item() == pytest.approx(total / sum(predicted), rel=1e-6)


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("scope", ["batch", "sequence"])
@torch.no_grad()
def test_router_losses_do_not_count_padding(scope, side):
    model = build_lm(balance_scope=scope)
    tight_ids, tight_mask = pad(ROWS, side)
    loose_ids, loose_mask = pad(ROWS, side, extra=9, filler=20)
    tight = model(input_ids=tight_ids, attention_mask=tight_mask, labels=tight_ids)
    loose = model(input_ids=loose_ids, attention_mask=loose_mask, labels=loose_ids)
    torch.testing.assert_close(tight.balance_loss, loose.balance_loss, rtol=1e-9, atol=0)
    torch.testing.assert_close(tight.z_loss, loose.z_loss, rtol=1e-9, atol=0)


@pytest.mark.parametrize("patch_len", [1, 4])
@pytest.mark.parametrize("position", ["rotary", "learned"])
@torch.no_grad()
def test_packed_documents_equal_separate_ones(position, patch_len):
    routers = {
        "attention_router": causal_router(patch_len=patch_len, gate_keys=True),
        "mlp_router": causal_router(patch_len=patch_len),
    }
    model = build_lm(**routers, position_embedding=position)
    packing = [[ROWS[0], ROWS[1]], [ROWS[2], ROWS[1], tokens(6, seed=6)]]
    ids, mask = pad([torch.cat(documents) for documents in packing], "right", extra=2)
    document_ids = torch.zeros_like(ids)
    for row, documents in enumerate(packing):
        start = 0
        for number, document in enumerate(documents):
            document_ids[row, start : start + len(document)] = 5 - number  # any labels do, in any order
            start += len(document)
    packed = model(input_ids=ids, attention_mask=mask, document_ids=document_ids, labels=ids)
    total, predicted, example = 0.0, 0, 0
    for row, documents in enumerate(packing):
        start = 0
        for document in documents:
            single = model(input_ids=document[None], labels=document[None])
            columns = slice(start, start + len(document))
            torch.testing.assert_close(packed.logits[row, columns], single.logits[0], rtol=0, atol=1e-11)
            units = torch.arange(columns.start, columns.stop) + row * ids.shape[1]
            for decision, own in zip(packed.decisions, single.decisions, strict=True):
                assert_same_decisions(units_of(decision, units), own)
                assert decision.capacity_G[example] == own.capacity_G[0]
            total += single.cross_entropy.item() * (len(document) - 1)
            predicted += len(document) - 1
            start, example = columns.stop, example + 1
    assert packed.cross_entropy.item() == pytest.approx(total / predicted, rel=1e-6)


def test_a_document_that_is_interrupted_and_a_row_without_tokens_are_errors():
    model = build_lm()
    with pytest.raises(InputError, match="neighbours"):
        model(input_ids=tokens(1, 6), document_ids=torch.tensor([[0, 0, 1, 1, 0, 0]]))
    with pytest.raises(InputError, match="at least one token"):
        model(input_ids=tokens(2, 6), attention_mask=torch.tensor([[1] * 6, [0] * 6]))
