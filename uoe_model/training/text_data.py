"""Text for training: documents tokenised once, packed into windows with their boundaries, evenly mixed by domain."""

import dataclasses
import hashlib
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import torch
from torch import Tensor
from transformers import PreTrainedTokenizerFast

from uoe_model.errors import InputError
from uoe_model.processors.text import tokenizer_digest
from uoe_model.training.image_data import seeded_generator

IGNORED_LABEL = -100


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Documents:
    """Tokenised documents, without special tokens.

    Attributes:
        tokens: int32, all documents one after the other.
        starts: int64 (documents + 1,), where each document starts in `tokens`, and the end of the last.
        domain_of: int64 (documents,), index into `domains`.
        domains: sorted names.
        names: of the documents; the parts of one that was cut into several rows have the same.
        token_bytes: int64 (vocabulary,), UTF-8 bytes that each token stands for; 0 for special tokens.
        bos_token_id: starts every example.
    """

    tokens: np.ndarray
    starts: np.ndarray
    domain_of: np.ndarray
    domains: tuple[str, ...]
    names: tuple[str, ...]
    token_bytes: np.ndarray
    bos_token_id: int

    def __len__(self) -> int:
        return len(self.domain_of)

    def document(self, index: int) -> np.ndarray:
        """The tokens of one document."""
        return self.tokens[self.starts[index] : self.starts[index + 1]]


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class RawTexts:
    """Columns of a Parquet file: texts, their domains, their names without the number of the part (`#1of3`)."""

    texts: list[str]
    domains: list[str]
    names: list[str]


def read_texts(path: Path) -> RawTexts:
    """Read a Parquet file with the columns text, domain and doc_id."""
    if not path.is_file():
        raise InputError(f"{path}: no such file; --data must be the folder that holds images/ and text/")
    table = pq.read_table(path, columns=["text", "domain", "doc_id"])
    names = [name.partition("#")[0] for name in table["doc_id"].to_pylist()]
    return RawTexts(texts=table["text"].to_pylist(), domains=table["domain"].to_pylist(), names=names)


def token_byte_counts(tokenizer: PreTrainedTokenizerFast) -> np.ndarray:
    """UTF-8 bytes of every token of a byte-level vocabulary, where one character of a piece stands for one byte."""
    pieces = tokenizer.convert_ids_to_tokens(list(range(len(tokenizer))))
    special = set(tokenizer.all_special_tokens)
    return np.asarray([0 if piece in special else len(piece) for piece in pieces], dtype=np.int64)


def load_documents(path: Path, tokenizer: PreTrainedTokenizerFast, *, cache: Path | None = None) -> Documents:
    """Tokenise the documents of a Parquet file.

    Args:
        path: what `read_texts` reads.
        tokenizer: byte-level, with a bos token.
        cache: folder that keeps the tokens under a name with the digest of file and tokenizer.
    """
    raw = read_texts(path)
    domains = tuple(sorted(set(raw.domains)))
    digest = hashlib.sha256(path.read_bytes())
    digest.update(tokenizer_digest(tokenizer).encode())
    stored = None if cache is None else cache / f"{path.stem}-{digest.hexdigest()[:16]}.npy"
    lengths_stored = None if stored is None else stored.with_suffix(".lengths.npy")
    token_bytes = token_byte_counts(tokenizer)
    if stored is not None and lengths_stored is not None and stored.is_file() and lengths_stored.is_file():
        tokens, lengths = np.load(stored), np.load(lengths_stored)
    else:
        encoded = tokenizer(raw.texts, add_special_tokens=False, split_special_tokens=True, verbose=False)["input_ids"]
        for text, ids in zip(raw.texts, encoded, strict=True):
            if int(token_bytes[ids].sum()) != len(text.encode()):
                raise InputError(f"{path}: the tokenizer does not keep every byte of {text[:40]!r}...")
        lengths = np.asarray([len(ids) for ids in encoded], dtype=np.int64)
        tokens = np.concatenate([np.asarray(ids, dtype=np.int32) for ids in encoded])
        if stored is not None and lengths_stored is not None:
            stored.parent.mkdir(parents=True, exist_ok=True)
            np.save(stored, tokens)
            np.save(lengths_stored, lengths)
    return Documents(
        tokens=tokens,
        starts=np.concatenate([[0], np.cumsum(lengths)]),
        domain_of=np.asarray([domains.index(name) for name in raw.domains], dtype=np.int64),
        domains=domains,
        names=tuple(raw.names),
        token_bytes=token_bytes,
        bos_token_id=int(tokenizer.bos_token_id),
    )


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Windows:
    """Rows of context length; a row holds one or more examples, each the bos token and a piece of a document.

    Attributes:
        token_ids, document_ids, position_ids: int32 (windows, context); document ids count the examples of a row,
            positions restart with each.
    """

    token_ids: np.ndarray
    document_ids: np.ndarray
    position_ids: np.ndarray

    def __len__(self) -> int:
        return len(self.token_ids)


def pack_documents(documents: Documents, order: np.ndarray, *, context: int, num_windows: int) -> Windows:
    """Lay documents end to end into windows.

    Every piece of a document in a window is an example of its own and starts with the bos token: a document that
    crosses the border of a window goes on as a new example.

    Args:
        documents: where the tokens are.
        order: documents in the order in which they are laid.
        context: length of a window.
        num_windows: windows wanted; the rest is left out. The documents must be enough to fill them.
    """
    token_ids = np.full((num_windows, context), documents.bos_token_id, dtype=np.int32)
    document_ids = np.zeros_like(token_ids)
    position_ids = np.zeros_like(token_ids)
    row, column, piece = 0, 0, 0
    for index in order:
        tokens = documents.document(int(index))
        while len(tokens) and row < num_windows:
            taken = min(len(tokens), context - column - 1)
            end = column + 1 + taken
            token_ids[row, column + 1 : end] = tokens[:taken]
            document_ids[row, column:end] = piece
            position_ids[row, column:end] = np.arange(1 + taken)
            tokens, column, piece = tokens[taken:], end, piece + 1
            if column == context:
                row, column, piece = row + 1, 0, 0
    if row < num_windows:
        raise InputError(f"the documents fill {row} windows of {context} tokens, not {num_windows}")
    return Windows(token_ids=token_ids, document_ids=document_ids, position_ids=position_ids)


class TextBatches:
    """Batches of packed windows: each epoch shuffles documents and windows anew, and mixes domains evenly."""

    def __init__(self, documents: Documents, *, context: int, batch_size: int, seed: int) -> None:
        self._documents = documents
        self._context = context
        self._batch_size = batch_size
        self._seed = seed
        lengths = np.diff(documents.starts)
        self._members = [np.flatnonzero(documents.domain_of == d) for d in range(len(documents.domains))]
        self._num_windows = [int(lengths[members].sum()) // context for members in self._members]
        if sum(self._num_windows) < batch_size:
            raise InputError(f"{sum(self._num_windows)} windows of {context} tokens are less than one batch")
        self._epoch = -1
        self._windows: Windows | None = None

    @property
    def steps_per_epoch(self) -> int:
        """Batches until every window was seen once; a last incomplete batch is left out."""
        return sum(self._num_windows) // self._batch_size

    def batch(self, step: int) -> dict[str, Tensor]:
        """The model's arguments at this step, the same for the same seed whatever came before."""
        epoch, number = divmod(step, self.steps_per_epoch)
        if self._windows is None or epoch != self._epoch:
            self._windows, self._epoch = self._pack_epoch(epoch), epoch
        rows = slice(number * self._batch_size, (number + 1) * self._batch_size)
        return batch_arguments(self._windows, rows)

    def _pack_epoch(self, epoch: int) -> Windows:
        parts: list[Windows] = []
        places: list[np.ndarray] = []
        for domain, (members, num_windows) in enumerate(zip(self._members, self._num_windows, strict=True)):
            generator = seeded_generator(self._seed, 1, epoch, domain)
            order = members[torch.randperm(len(members), generator=generator).numpy()]
            parts.append(pack_documents(self._documents, order, context=self._context, num_windows=num_windows))
            shuffled = torch.randperm(num_windows, generator=generator).double()
            jitter = torch.rand(num_windows, generator=generator, dtype=torch.float64)
            places.append(((shuffled + jitter) / max(num_windows, 1)).numpy())
        mixed = np.argsort(np.concatenate(places), kind="stable")
        return Windows(
            token_ids=np.concatenate([part.token_ids for part in parts])[mixed],
            document_ids=np.concatenate([part.document_ids for part in parts])[mixed],
            position_ids=np.concatenate([part.position_ids for part in parts])[mixed],
        )


def batch_arguments(windows: Windows, rows: slice) -> dict[str, Tensor]:
    """The model's keyword arguments for some windows; the bos token of an example is never a label."""
    input_ids, document_ids, position_ids = (
        torch.from_numpy(column[rows].astype(np.int64))
        for column in (windows.token_ids, windows.document_ids, windows.position_ids)
    )
    labels = input_ids.masked_fill(position_ids == 0, IGNORED_LABEL)
    return {"input_ids": input_ids, "document_ids": document_ids, "position_ids": position_ids, "labels": labels}
