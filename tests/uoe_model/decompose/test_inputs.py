"""What routers are fitted and measured on."""

import numpy as np
import pytest
import torch
from PIL import Image

from tests.dense_checkpoints import CONTEXT, TEXT, save_dense
from uoe_model.decompose import curve, inputs
from uoe_model.decompose.clusters import MOST_FEATURES, picked_rows
from uoe_model.decompose.decomposition import DecomposeOptions, decompose
from uoe_model.decompose.inputs import prepare_inputs, units_of
from uoe_model.decompose.source import load_source
from uoe_model.errors import CheckpointError, DeviceError, InputError
from uoe_model.processors.text import encode


@pytest.fixture(scope="module")
def sources(tmp_path_factory):
    parent = tmp_path_factory.mktemp("dense")
    return {family: load_source(save_dense(family, parent / family)) for family in ("bert", "gpt2", "vit")}


def rows_of(batches):
    """Ids of every example without its padding."""
    return [
        ids[mask.bool()].tolist()
        for batch in batches
        for ids, mask in zip(batch["input_ids"], batch["attention_mask"], strict=True)
    ]


@pytest.mark.parametrize("family", ["bert", "gpt2"])
def test_every_fifth_example_is_held_out_and_all_are_framed(sources, family):
    dense, tokenizer = sources[family]
    fitted, held_out = (rows_of(part) for part in prepare_inputs(dense, tokenizer, [TEXT], []))
    frame = 2 if family == "bert" else 1
    ids = encode(tokenizer, TEXT).token_ids.tolist()
    number = -(-len(ids) // (CONTEXT - frame))
    assert len(held_out) == len(range(1, number, 5))
    assert len(fitted) == number - len(held_out)
    merged = list(fitted)
    for place, row in zip(range(1, number, 5), held_out, strict=True):
        merged.insert(place, row)
    assert all(len(row) <= CONTEXT for row in merged)
    inner = slice(1, -1 if family == "bert" else None)
    assert [one for row in merged for one in row[inner]] == ids


def test_every_text_counts(sources, monkeypatch):
    dense, tokenizer = sources["gpt2"]
    monkeypatch.setattr(inputs, "_MOST_UNITS", 300)
    texts = [TEXT, "the lazy dog", TEXT.upper(), TEXT]
    fitted, held_out = prepare_inputs(dense, tokenizer, texts, [])
    rows = rows_of(fitted) + rows_of(held_out)
    assert sum(len(row) - 1 for row in rows) == 300
    starts = {tuple(encode(tokenizer, text).token_ids[:3].tolist()) for text in texts}
    assert starts <= {tuple(row[1:4]) for row in rows}


def test_pictures_are_split_and_counted_in_cells(sources):
    dense, processor = sources["vit"]
    random = np.random.default_rng(0)
    pictures = [Image.fromarray(random.integers(0, 256, (16, 16, 3), dtype=np.uint8)) for _ in range(12)]
    fitted, held_out = prepare_inputs(dense, processor, [], pictures)
    assert [len(batch["pixel_values"]) for batch in fitted] == [4, 4, 1]
    expected = [processor.prepare(pictures[place]).pixel_values for place in (1, 6, 11)]
    np.testing.assert_array_equal(held_out[0]["pixel_values"].numpy(), np.stack(expected))
    assert units_of(held_out[0], dense) == 3 * 17


@pytest.mark.parametrize("count", [0, 1, 2])
def test_of_few_examples_one_is_held_out_if_another_is_left(sources, count):
    dense, tokenizer = sources["gpt2"]
    fitted, held_out = prepare_inputs(dense, tokenizer, ["the lazy dog"] * count, [])
    assert (len(rows_of(fitted)), len(rows_of(held_out))) == {0: (0, 0), 1: (1, 0), 2: (1, 1)}[count]


def test_bad_inputs_are_one_sentence(sources, tmp_path):
    dense, tokenizer = sources["gpt2"]
    with pytest.raises(InputError, match="half of a surrogate pair"):
        prepare_inputs(dense, tokenizer, ["a\ud800"], [])
    (tmp_path / "cat.png").write_bytes(b"no picture")
    with pytest.raises(InputError):
        prepare_inputs(*sources["vit"], [], [tmp_path / "cat.png"])
    dense.config["max_position_embeddings"], before = 1, dense.config["max_position_embeddings"]
    try:
        with pytest.raises(CheckpointError, match="nothing but special tokens"):
            prepare_inputs(dense, tokenizer, [TEXT], [])
    finally:
        dense.config["max_position_embeddings"] = before


def test_units_to_compare_are_spread_over_all_batches():
    assert [rows.tolist() for rows in picked_rows([2, 1, 3])] == [[0, 1], [0], [0, 1, 2]]
    picked = picked_rows([900, 0, 1100, 2000])
    assert sum(map(len, picked)) == MOST_FEATURES
    assert [len(rows) for rows in picked] == pytest.approx([230, 0, 282, 512], abs=1)
    joined = torch.cat([rows + start for rows, start in zip(picked, (0, 900, 900, 2000), strict=True)])
    assert joined[0] == 0
    assert joined[-1] == 3999
    assert set(joined.diff().tolist()) <= {3, 4}


def test_the_loss_is_the_same_however_few_logits_are_held_at_once(sources, tmp_path, monkeypatch):
    folder = save_dense("gpt2", tmp_path / "gpt2")
    options = DecomposeOptions(attention_experts=1, mlp_experts=2)
    whole = decompose(folder, tmp_path / "whole", options, texts=[TEXT])["curve"]
    monkeypatch.setattr(curve, "LOGITS_AT_ONCE", 1000)
    parts = decompose(folder, tmp_path / "parts", options, texts=[TEXT])["curve"]
    assert [row["loss"] for row in parts] == pytest.approx([row["loss"] for row in whole], rel=1e-6)


def test_out_of_memory_is_one_sentence(tmp_path, monkeypatch):
    def fail(*_, **__):
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 8 bytes")

    folder = save_dense("gpt2", tmp_path / "gpt2")
    monkeypatch.setattr("uoe_model.decompose.decomposition.cut", fail)
    with pytest.raises(DeviceError, match="not enough memory to cut"):
        decompose(folder, tmp_path / "union", DecomposeOptions(attention_experts=2, mlp_experts=2), texts=[TEXT])
