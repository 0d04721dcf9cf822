"""Packing of documents into training windows, and their cutting into test examples."""

from pathlib import Path

import numpy as np
import pytest
import torch

from tests.uoe_model.training_data import write_data
from uoe_model.errors import InputError
from uoe_model.processors.text import build_tokenizer
from uoe_model.training.text_data import (
    IGNORED_LABEL,
    Documents,
    TextBatches,
    Windows,
    batch_arguments,
    load_documents,
    pack_documents,
    read_texts,
)
from uoe_model.training.text_examples import cut_examples, domain_rates, example_batches, token_losses

BOS = 0


def documents_of(*lengths: int, domains: tuple[int, ...] | None = None) -> Documents:
    """Documents of these lengths whose tokens count up from 1, so that each token says where it belongs."""
    starts = np.concatenate([[0], np.cumsum(lengths)])
    return Documents(
        tokens=np.arange(1, starts[-1] + 1, dtype=np.int32),
        starts=starts,
        domain_of=np.asarray(domains or [0] * len(lengths)),
        domains=("a", "b")[: 1 + max(domains or (0,))],
        names=tuple(f"d{number}" for number in range(len(lengths))),
        token_bytes=np.full(starts[-1] + 1, 2),
        bos_token_id=BOS,
    )


def pieces(windows: Windows) -> list[list[int]]:
    """The tokens of every example, in order, after a check that ids and positions agree."""
    result: list[list[int]] = []
    for tokens, numbers, positions in zip(windows.token_ids, windows.document_ids, windows.position_ids, strict=True):
        assert sorted(set(numbers.tolist())) == list(range(numbers.max() + 1))
        for number in range(numbers.max() + 1):
            chosen = numbers == number
            assert positions[chosen].tolist() == list(range(chosen.sum()))
            assert tokens[chosen][0] == BOS
            result.append(tokens[chosen][1:].tolist())
    return result


def test_packing_by_hand() -> None:
    windows = pack_documents(documents_of(3, 4, 2), np.array([0, 1, 2]), context=6, num_windows=2)
    assert windows.token_ids.tolist() == [[0, 1, 2, 3, 0, 4], [0, 5, 6, 7, 0, 8]]
    assert windows.document_ids.tolist() == [[0, 0, 0, 0, 1, 1], [0, 0, 0, 0, 1, 1]]
    assert windows.position_ids.tolist() == [[0, 1, 2, 3, 0, 1], [0, 1, 2, 3, 0, 1]]


def test_packing_keeps_every_token_in_order() -> None:
    generator = np.random.default_rng(0)
    for context in (2, 3, 7, 16):
        lengths = generator.integers(1, 20, 30)
        documents = documents_of(*lengths.tolist())
        order = generator.permutation(30)
        num_windows = int(lengths.sum()) // context
        windows = pack_documents(documents, order, context=context, num_windows=num_windows)
        expected = np.concatenate([documents.document(index) for index in order]).tolist()
        packed = [token for piece in pieces(windows) for token in piece]
        assert packed == expected[: len(packed)]
        assert len(packed) + len(pieces(windows)) == num_windows * context


def test_more_windows_than_the_documents_fill_are_refused() -> None:
    with pytest.raises(InputError, match="fill 1 windows"):
        pack_documents(documents_of(5), np.array([0]), context=4, num_windows=3)


def test_the_first_token_of_an_example_is_no_label() -> None:
    windows = pack_documents(documents_of(3, 4), np.array([0, 1]), context=6, num_windows=1)
    batch = batch_arguments(windows, slice(0, 1))
    assert batch["labels"].tolist() == [[IGNORED_LABEL, 1, 2, 3, IGNORED_LABEL, 4]]
    assert batch["input_ids"].dtype == torch.int64


def test_batches_depend_on_seed_and_step_alone_and_mix_domains() -> None:
    documents = documents_of(*[40] * 20, domains=tuple([0] * 10 + [1] * 10))
    batches = TextBatches(documents, context=10, batch_size=8, seed=1)
    again = TextBatches(documents, context=10, batch_size=8, seed=1)
    far = batches.steps_per_epoch + 3
    late = again.batch(far)["input_ids"]
    for step in range(far):
        batch = batches.batch(step)["input_ids"]
        of_first = ((batch > 0) & (batch <= 400)).any(dim=1).sum()
        assert 2 <= int(of_first) <= 6
    assert torch.equal(batches.batch(far)["input_ids"], late)
    assert not torch.equal(late, batches.batch(3)["input_ids"])
    assert not torch.equal(late, TextBatches(documents, context=10, batch_size=8, seed=2).batch(far)["input_ids"])


def test_an_epoch_shows_no_token_twice() -> None:
    batches = TextBatches(documents_of(*range(5, 40)), context=8, batch_size=3, seed=0)
    seen = torch.cat([batches.batch(step)["input_ids"] for step in range(batches.steps_per_epoch)])
    seen = seen[seen > 0]
    assert len(seen.unique()) == len(seen)


def test_loading_keeps_bytes_and_joins_the_parts_of_a_document(tmp_path: Path) -> None:
    path = write_data(tmp_path / "data") / "text" / "train.parquet"
    raw = read_texts(path)
    tokenizer = build_tokenizer(raw.texts, vocab_size=300)
    documents = load_documents(path, tokenizer, cache=tmp_path / "cache")
    cached = load_documents(path, tokenizer, cache=tmp_path / "cache")
    assert documents.tokens.tolist() == cached.tokens.tolist()
    for index, text in enumerate(raw.texts):
        tokens = documents.document(index)
        assert tokenizer.decode(tokens) == text
        assert documents.token_bytes[tokens].sum() == len(text.encode())
    assert len(set(documents.names)) < len(documents)


def test_examples_cover_every_token_once_and_know_their_bytes() -> None:
    documents = documents_of(3, 11, 8, domains=(0, 1, 1))
    examples = cut_examples(documents, context=5)
    assert [example.token_ids.tolist() for example in examples] == [
        [1, 2, 3],
        [4, 5, 6, 7],
        [8, 9, 10, 11],
        [12, 13, 14],
        [15, 16, 17, 18],
        [19, 20, 21, 22],
    ]
    assert [example.num_bytes for example in examples] == [6, 8, 8, 6, 8, 8]
    assert [(example.document, example.domain) for example in examples][:2] == [(0, 0), (1, 1)]


def test_a_limit_takes_evenly_spaced_examples_of_each_domain() -> None:
    examples = cut_examples(documents_of(3, 40, domains=(0, 1)), context=5, limit=3)
    assert [int(example.token_ids[0]) for example in examples] == [1, 4, 20, 40]


def test_padded_batches_hold_every_example_and_losses_skip_padding() -> None:
    examples = cut_examples(documents_of(3, 11), context=5)
    generator = torch.Generator().manual_seed(0)
    for numbers, arguments in example_batches(examples, bos_token_id=BOS, batch_size=3):
        logits = torch.randn(*arguments["input_ids"].shape, 15, generator=generator)
        losses = token_losses(logits, arguments)
        for row, number in enumerate(numbers):
            tokens = examples[number].token_ids.tolist()
            assert arguments["input_ids"][row, : 1 + len(tokens)].tolist() == [BOS, *tokens]
            assert int(arguments["attention_mask"][row].sum()) == 1 + len(tokens)
            by_hand = sum(
                float(torch.logsumexp(logits[row, place], 0) - logits[row, place, token])
                for place, token in enumerate(tokens)
            )
            assert float(losses[row].sum()) == pytest.approx(by_hand, rel=1e-5)


def test_bits_per_byte_by_hand() -> None:
    examples = cut_examples(documents_of(4, 2, domains=(0, 1)), context=9)
    rates = domain_rates(np.array([8 * np.log(2), 3.0]), examples, ("a", "b"))
    assert rates["a"] == (pytest.approx(1.0), pytest.approx(2 * np.log(2)))
    assert rates["b"] == (pytest.approx(3 / np.log(2) / 4), pytest.approx(1.5))
