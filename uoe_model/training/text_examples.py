"""Text for measuring: documents cut into non-overlapping examples, and the loss of every one of them."""

import dataclasses
from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import Tensor, nn

from uoe_model.training.text_data import IGNORED_LABEL, Documents


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class TextExample:
    """A piece of a document, read after the bos token.

    Attributes:
        token_ids: int32, without the bos token; every one of them is predicted.
        document: index of its document; domain: index of its domain.
        num_bytes: UTF-8 bytes that the tokens stand for.
    """

    token_ids: np.ndarray
    document: int
    domain: int
    num_bytes: int


def cut_examples(documents: Documents, *, context: int, limit: int | None = None) -> list[TextExample]:
    """Cut every document into pieces of context - 1 tokens (the bos token takes the first place), the last shorter.

    Args:
        documents: what is cut.
        context: length of an example with its bos token.
        limit: most examples per domain, evenly spaced over the domain; None for all.
    """
    examples: list[TextExample] = []
    for domain in range(len(documents.domains)):
        pieces = [
            (int(index), tokens[start : start + context - 1])
            for index in np.flatnonzero(documents.domain_of == domain)
            for tokens in (documents.document(int(index)),)
            for start in range(0, len(tokens), context - 1)
        ]
        if limit is not None and len(pieces) > limit:
            pieces = [pieces[place] for place in np.linspace(0, len(pieces) - 1, limit).round().astype(int)]
        for index, tokens in pieces:
            size = int(documents.token_bytes[tokens].sum())
            examples.append(TextExample(token_ids=tokens, document=index, domain=domain, num_bytes=size))
    return examples


def example_batches(
    examples: Sequence[TextExample], *, bos_token_id: int, batch_size: int
) -> Iterator[tuple[list[int], dict[str, Tensor]]]:
    """Examples of like length padded on the right: their numbers in `examples`, and the model's arguments."""
    order = sorted(range(len(examples)), key=lambda number: (-len(examples[number].token_ids), number))
    for start in range(0, len(order), batch_size):
        numbers = order[start : start + batch_size]
        width = 1 + max(len(examples[number].token_ids) for number in numbers)
        input_ids = torch.full((len(numbers), width), bos_token_id)
        attention_mask = torch.zeros_like(input_ids)
        for row, number in enumerate(numbers):
            tokens = torch.from_numpy(examples[number].token_ids.astype(np.int64))
            input_ids[row, 1 : 1 + len(tokens)] = tokens
            attention_mask[row, : 1 + len(tokens)] = 1
        yield numbers, {"input_ids": input_ids, "attention_mask": attention_mask}


def token_losses(logits_BTV: Tensor, arguments: dict[str, Tensor]) -> Tensor:
    """Nats of predicting every unit's next token, (B, T - 1); 0 where there is none."""
    labels_BT = arguments["input_ids"].masked_fill(arguments["attention_mask"] == 0, IGNORED_LABEL)[:, 1:]
    losses_N = nn.functional.cross_entropy(
        logits_BTV[:, :-1].flatten(0, 1).float(), labels_BT.flatten(), ignore_index=IGNORED_LABEL, reduction="none"
    )
    return losses_N.view_as(labels_BT)


def domain_rates(
    sums: np.ndarray, examples: Sequence[TextExample], domains: Sequence[str]
) -> dict[str, tuple[float, float]]:
    """Bits per byte and nats per token of every domain that has examples, pooled within the domain."""
    domain_of = np.asarray([example.domain for example in examples])
    num_bytes = np.asarray([example.num_bytes for example in examples])
    num_tokens = np.asarray([len(example.token_ids) for example in examples])
    rates: dict[str, tuple[float, float]] = {}
    for domain, name in enumerate(domains):
        chosen = domain_of == domain
        if chosen.any():
            nats = float(sums[chosen].sum())
            rates[name] = (nats / np.log(2) / float(num_bytes[chosen].sum()), nats / float(num_tokens[chosen].sum()))
    return rates
