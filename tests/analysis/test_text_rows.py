"""Texts out of uploaded tables, good and bad."""

import io
import json

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from analysis.text_rows import is_table, read_text_rows
from uoe_model.errors import InputError


def csv(table: pd.DataFrame) -> bytes:
    return table.to_csv(index=False).encode()


def parquet(table: pd.DataFrame) -> bytes:
    stream = io.BytesIO()
    table.to_parquet(stream)
    return stream.getvalue()


def jsonl(table: pd.DataFrame) -> bytes:
    return "\n".join(json.dumps(record) for record in table.to_dict("records")).encode()


TABLE = pd.DataFrame({"id": [7, 8, 9], "Text": ["one, two", "", "drei\nvier"], "title": ["a", "b", "c"]})


@pytest.mark.parametrize(("ending", "write"), [("csv", csv), ("parquet", parquet), ("jsonl", jsonl)])
def test_rows_with_text_are_read_in_order(ending: str, write):
    rows, column = read_text_rows(write(TABLE), name=f"table.{ending}", max_rows=10)
    assert column == "Text"
    assert rows["text"].tolist() == ["one, two", "drei\nvier"]
    assert rows["row"].tolist() == [0, 2]


def test_a_named_column_is_taken_and_rows_beyond_the_limit_are_left_out():
    rows, column = read_text_rows(csv(TABLE), name="t.csv", max_rows=2, column="title")
    assert (column, rows["text"].tolist()) == ("title", ["a", "b"])


def test_without_a_usual_name_the_first_text_column_is_taken():
    table = TABLE.rename(columns={"Text": "verse"})
    assert read_text_rows(jsonl(table), name="t.jsonl", max_rows=9)[1] == "verse"


@pytest.mark.parametrize(
    ("name", "data", "words"),
    [
        ("a.csv", b"", "is empty"),
        ("a.csv", b"\xff\xfe\x00", "a.csv"),
        ("a.csv", b"text\n\n\n", "holds no text"),
        ("a.csv", b'text\n"never closed', "cannot be read as a table"),
        ("a.jsonl", b"[1, 2]", "JSON object"),
        ("a.jsonl", b"{broken", "cannot be read as a table"),
        ("a.jsonl", b'{"n": 1}', "no column with text"),
        ("a.parquet", b"PAR1 but not really PAR1", "cannot be read as a table"),
        ("a.parquet", b"", "cannot be read as a table"),
        ("a.tsv", b"text\tother\n", "holds no text"),
    ],
)
def test_a_bad_table_is_one_sentence(name: str, data: bytes, words: str):
    with pytest.raises(InputError, match=words):
        read_text_rows(data, name=name, max_rows=5)


def test_a_damaged_parquet_file_is_one_sentence_or_still_a_table():
    rng, good = np.random.default_rng(0), parquet(TABLE)
    sentences = []
    for _ in range(600):
        data = bytearray(good)
        for place in rng.integers(0, len(data), int(rng.integers(1, 6))).tolist():
            data[place] = int(rng.integers(256))
        try:
            read_text_rows(bytes(data), name="a.parquet", max_rows=5)
        except InputError as error:
            sentences.append(str(error))
    assert len(sentences) > 300
    assert not any("\n" in sentence for sentence in sentences)


def test_a_row_that_parquet_repeats_is_unpacked_once():
    words = pa.DictionaryArray.from_arrays(pa.array([0, None, 0], "int32"), ["x" * 100_000])
    rows, _ = read_text_rows(parquet(pa.table({"text": words}).to_pandas()), name="a.parquet", max_rows=5)
    assert rows["row"].tolist() == [0, 2]
    assert rows["text"].str.len().tolist() == [100_000, 100_000]


def test_an_unknown_column_is_named_with_those_there_are():
    with pytest.raises(InputError, match="no column 'body': it has id, Text, title"):
        read_text_rows(csv(TABLE), name="t.csv", max_rows=5, column="body")


def test_too_many_columns_are_refused():
    wide = ",".join(f"c{number}" for number in range(500)).encode() + b"\n" + b",".join([b"x"] * 500)
    with pytest.raises(InputError, match="500 columns"):
        read_text_rows(wide, name="wide.csv", max_rows=5)


def test_tables_are_told_by_their_name():
    assert is_table("Notes.CSV")
    assert not is_table("notes.txt")
