"""Texts out of an uploaded table: CSV, JSON lines or Parquet, one input per row."""

import io
import json
from collections.abc import Mapping, Sequence
from typing import Final

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from uoe_model.errors import InputError
from uoe_model.parquet_headers import HeaderError, read_headers
from uoe_model.processors.text_input import MAX_TEXT_CHARS, check_text, decode_text, shorten_name

TABLE_ENDINGS: Final = (".csv", ".tsv", ".jsonl", ".parquet")
MAX_COLUMNS: Final = 200
MAX_PARQUET_BYTES: Final = 256 * 1024**2  # unpacked
MAX_CHARS: Final = 64 * MAX_TEXT_CHARS  # of all rows together
_TEXT_TYPES: Final = (pa.string(), pa.large_string(), pa.string_view())
USUAL_NAMES: Final = ("text", "content", "prompt", "sentence", "body")


def is_table(name: str) -> bool:
    """Whether a file's name says that it is a table."""
    return name.lower().endswith(TABLE_ENDINGS)


def read_text_rows(data: bytes, *, name: str, max_rows: int, column: str | None = None) -> tuple[pd.DataFrame, str]:
    """Read the texts of a table, in its order.

    Args:
        data: content of the file. name: its name, whose ending says how to read it.
        max_rows: rows beyond that are left out.
        column: the column with the texts; None: one called text, content, prompt, sentence or body, else the first
            that holds text.

    Returns:
        The rows that hold text (row: int64, place in the file from 0; text: str), and the name of the column.

    Raises:
        InputError: the file is no such table, is damaged, or has no column with text.
    """
    subject = shorten_name(name)
    try:
        table = _read(data, name, max_rows)
    except (ValueError, pa.ArrowException, HeaderError, OSError, RecursionError) as error:
        raise InputError(
            f"{subject} cannot be read as a table ({_reason(error)}): save it as CSV, JSON lines or Parquet."
        ) from error
    if len(table) > MAX_COLUMNS:
        raise InputError(f"{subject} has {len(table):,} columns: at most {MAX_COLUMNS} can be read.")
    chosen = _column(table, column, subject)
    found = enumerate(table[chosen])
    texts = {row: value for row, value in found if isinstance(value, str) and value and not value.isspace()}
    if not texts:
        raise InputError(
            f"Column {shorten_name(chosen)!r} of {subject} holds no text in its first {max_rows} rows: choose another "
            "file."
        )
    count = sum(map(len, texts.values()))
    if count > MAX_CHARS:
        raise InputError(
            f"{subject} has {count:,} characters in its first {max_rows} rows: at most {MAX_CHARS:,} are run at once."
        )
    for row, text in texts.items():
        check_text(text, max_chars=MAX_CHARS, name=f"{subject} row {row}")
    rows = {"row": np.fromiter(texts, np.int64, len(texts)), "text": pd.Series(list(texts.values()), dtype="str")}
    return pd.DataFrame(rows), chosen


def _read(data: bytes, name: str, max_rows: int) -> dict[str, Sequence[object]]:
    """The first rows of every column."""
    ending = name.lower().rpartition(".")[2]
    if ending == "parquet":
        return _read_parquet(data, max_rows)
    text = decode_text(data, name=name)
    if ending == "jsonl":
        lines = [line for line in text.splitlines() if line.strip()][:max_rows]
        records = [json.loads(line) for line in lines]
        if not all(isinstance(record, dict) for record in records):
            raise ValueError('every line must be a JSON object, such as {"text": "…"}')
        names = dict.fromkeys(one for record in records for one in record)
        return {one: [record.get(one) for record in records] for one in names}
    separator = "\t" if ending == "tsv" else ","
    table = pd.read_csv(io.StringIO(text), sep=separator, nrows=max_rows, dtype="str", keep_default_na=False)
    if not isinstance(table.index, pd.RangeIndex):
        raise ValueError("its rows have more fields than its header")
    return {str(one): table.iloc[:, place].tolist() for place, one in enumerate(table.columns)}


def _read_parquet(data: bytes, max_rows: int) -> dict[str, Sequence[object]]:
    """The same; columns that hold no strings stay empty, and a string that many rows share is unpacked once."""
    read_headers(data)  # Arrow ends the whole process on some damaged files, so their headers are walked first
    schema = pq.ParquetFile(io.BytesIO(data)).schema_arrow
    if len(schema) > MAX_COLUMNS:
        raise ValueError(f"it has {len(schema):,} columns, at most {MAX_COLUMNS} can be read")
    twice = [one for one in schema.names if schema.names.count(one) > 1]
    if twice:
        raise ValueError(f"it has several columns called {twice[0][:80]!r}")
    texts = [field.name for field in schema if getattr(field.type, "value_type", field.type) in _TEXT_TYPES]
    texts = [one for one in texts if not pa.types.is_nested(schema.field(one).type)]
    size = read_headers(data, texts).num_bytes
    if size > MAX_PARQUET_BYTES:
        raise ValueError(f"it would unpack to about {size:,} bytes, at most {MAX_PARQUET_BYTES:,} can be read")
    file = pq.ParquetFile(io.BytesIO(data), read_dictionary=texts)
    batch = next(file.iter_batches(batch_size=max_rows, columns=texts), None) if texts else None
    found: dict[str, Sequence[object]] = dict.fromkeys(schema.names, ())
    if batch is None:
        return found
    batch.validate(full=True)
    for one in texts:
        column = batch.column(one)
        words = column.dictionary.to_pylist()
        found[one] = [None if place is None else words[place] for place in column.indices.to_pylist()]
    return found


def _reason(error: BaseException) -> str:
    """What went wrong; what Arrow, pandas and Python say to programmers is not for readers."""
    if isinstance(error, pd.errors.EmptyDataError | pd.errors.ParserError | json.JSONDecodeError):
        return " ".join(str(error).removeprefix("Error tokenizing data. C error: ").split())[:160]
    if type(error) is ValueError and "int_max_str_digits" not in str(error):
        return str(error)[:160]
    if isinstance(error, RecursionError):
        return "it is nested too deeply"
    return "it holds a number that is too long" if type(error) is ValueError else "it is damaged or something else"


def _column(table: Mapping[str, Sequence[object]], column: str | None, subject: str) -> str:
    if column is not None:
        if column not in table:
            found = shorten_name(", ".join(list(table)[:20]), max_chars=200)
            raise InputError(f"{subject} has no column {shorten_name(column)!r}: it has {found}.")
        return column
    by_name = {one.strip().lower(): one for one in table}
    for usual in USUAL_NAMES:
        if usual in by_name:
            return by_name[usual]
    for one, values in table.items():
        if any(isinstance(value, str) for value in values):
            return one
    raise InputError(f"{subject} has no column with text: name one of them 'text'.")
