"""The sizes a Parquet file declares are added up without trusting any of them."""

import io
import struct
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from uoe_model import parquet_headers
from uoe_model.parquet_headers import HeaderError, read_headers

Fields = dict[int, Any]  # a Thrift struct: ints, bytes, lists and dicts by field id


def varint(number: int) -> bytes:
    head = [number & 127 | 128] if number > 127 else [number]
    return bytes(head) + (varint(number >> 7) if number > 127 else b"")


def compact(value: Any) -> tuple[int, bytes]:
    """A value in Thrift's compact protocol, by its type: the type's code and the bytes."""
    if isinstance(value, int):
        return 6, varint(value << 1 if value >= 0 else (-value << 1) - 1)
    if isinstance(value, bytes):
        return 8, varint(len(value)) + value
    if isinstance(value, list):
        items = [compact(item) for item in value]
        kind = items[0][0] if items else 12
        head = bytes([len(items) << 4 | kind]) if len(items) < 15 else bytes([15 << 4 | kind]) + varint(len(items))
        return 9, head + b"".join(item for _, item in items)
    body = b"".join(
        bytes([kind]) + varint(field << 1) + item
        for field, (kind, item) in ((field, compact(item)) for field, item in value.items())
    )
    return 12, body + b"\0"


def data_page(num_values: int, size: int, body: bytes = b"", encoding: int = 0) -> bytes:
    header = {1: 0, 2: size, 3: len(body), 5: {1: num_values, 2: encoding, 3: 3, 4: 3}}
    return compact(header)[1] + body


def data_page_v2(num_values: int, size: int, encoding: int = 0) -> bytes:
    return compact({1: 3, 2: size, 3: 0, 8: {1: num_values, 2: 0, 3: num_values, 4: encoding}})[1]


def dictionary_page(num_values: int, size: int) -> bytes:
    return compact({1: 2, 2: size, 3: 0, 7: {1: num_values, 2: 0}})[1]


def column(length: int, **changes: Any) -> Fields:
    """Metadata of a column of ints whose pages stand right after the magic bytes."""
    names = {"kind": 1, "path": 3, "num_values": 5, "length": 7, "data_page": 9, "dictionary_page": 11}
    fields = {1: 1, 3: [b"x"], 5: 10, 7: length, 9: 4}
    return fields | {names[name]: value for name, value in changes.items()}


def parquet(pages: bytes, columns: list[Fields], num_rows: int = 10, **changes: Any) -> bytes:
    """A file of one row group whose columns all have the same pages."""
    group = {1: [{2: 0, 3: fields} for fields in columns], 3: changes.get("group_rows", num_rows)}
    footer = {1: 2, 3: num_rows, 4: [group], 5: [{1: b"site_ids", 2: b"0 1"}]}
    _, body = compact(changes.get("footer", footer))
    return b"PAR1" + pages + body + struct.pack("<L", len(body)) + b"PAR1"


def one_page(header: Fields) -> bytes:
    page = compact(header)[1]
    return parquet(page, [column(len(page))])


def written(table: Any, **options: Any) -> bytes:
    sink = io.BytesIO()
    pq.write_table(table, sink, **options)
    return sink.getvalue()


@pytest.mark.parametrize("version", ["1.0", "2.0"])
def test_the_bound_holds_for_what_arrow_writes(version: str):
    rng = np.random.default_rng(0)
    text = pa.array(rng.choice(["a", "bb" * 50, ""], 5000))
    lists = pa.array([[float(item) for item in range(row % 7)] for row in range(5000)], pa.list_(pa.float32()))
    table = pa.table({"i": rng.integers(0, 9, 5000), "f": rng.random(5000), "t": text, "l": lists})
    for options in ({}, {"row_group_size": 700, "data_page_size": 512}, {"use_dictionary": False}):
        found = read_headers(written(table, data_page_version=version, **options))
        assert found.num_rows == 5000
        assert found.num_bytes >= table.nbytes


def test_an_empty_table_needs_nothing():
    for options in ({}, {"use_dictionary": False}):
        found = read_headers(
            written(pa.table({"i": pa.array([], pa.int32()), "t": pa.array([], pa.string())}), **options)
        )
        assert (found.num_rows, found.num_bytes) == (0, 0)


def test_notes_are_read():
    table = pa.table({"i": [1]}).replace_schema_metadata({"site_ids": "0 1", "umlaut": "ü"})
    notes = read_headers(written(table)).metadata
    assert (notes["site_ids"], notes["umlaut"]) == ("0 1", "ü")


def test_pages_values_and_rows_are_added_up():
    pages = dictionary_page(3, 100) + data_page(6, 1000, b"?" * 50) + data_page_v2(4, 2000)
    found = read_headers(parquet(pages, [column(len(pages))]))
    assert found.num_bytes == 100 + 1000 + 2000 + 8 * (3 + 6 + 4 + 10)
    assert (found.num_rows, found.metadata) == (10, {"site_ids": "0 1"})
    twice = read_headers(parquet(pages, [column(len(pages)), column(len(pages))]))
    assert twice.num_bytes == 2 * found.num_bytes


def test_a_page_that_unpacks_to_more_than_the_footer_says_counts():
    page = data_page(10, 2**31 - 1)
    assert read_headers(parquet(page, [column(len(page))])).num_bytes > 2**31


def test_pages_count_even_if_the_footer_says_that_there_are_no_rows_or_no_values():
    page = data_page(10, 1000)
    assert read_headers(parquet(page, [column(len(page), num_values=0)])).num_bytes == 1000 + 8 * 20
    assert read_headers(parquet(page, [column(len(page))], num_rows=0)).num_bytes == 1000 + 8 * 10
    assert read_headers(parquet(page, [column(len(page), num_values=0)], num_rows=0)).num_bytes == 0


def test_strings_count_as_often_as_they_are_named_unless_they_are_shared():
    pages = dictionary_page(1, 1000) + data_page(9, 10)
    plain = 1010 + 8 * (10 + 10)
    text = [column(len(pages), kind=6, path=[b"t"])]
    assert read_headers(parquet(pages, text)).num_bytes == plain + 10 * 1000
    assert read_headers(parquet(pages, text), ["t"]).num_bytes == plain
    nested = [column(len(pages), kind=6, path=[b"t", b"list"])]
    assert read_headers(parquet(pages, nested), ["t"]).num_bytes == plain + 10 * 1000
    assert read_headers(parquet(pages, [column(len(pages))])).num_bytes == plain


def test_pages_start_at_the_dictionary_if_it_comes_first():
    pages = dictionary_page(1, 500) + data_page(9, 10)
    after = 4 + len(dictionary_page(1, 500))
    first = read_headers(parquet(pages, [column(len(pages), data_page=after, dictionary_page=4)]))
    assert first.num_bytes == 510 + 8 * 20
    for ignored in (0, after, after + 1):
        rest = column(len(pages) - after + 4, data_page=after, dictionary_page=ignored)
        assert read_headers(parquet(pages, [rest])).num_bytes == 10 + 8 * 19


GOOD = data_page(10, 40)
DAMAGED = [
    (b"", "no Parquet file"),
    (b"PAR1" + bytes(8), "no Parquet file"),
    (b"PAR1" + struct.pack("<L", 0) + b"PARE", "no Parquet file"),
    (b"ZIP1" + struct.pack("<L", 0) + b"PAR1", "no Parquet file"),
    (b"PAR1PAR1", "no Parquet file"),
    (b"PAR1" + struct.pack("<L", 1) + b"PAR1", "the footer is longer than the file"),
    (b"PAR1" + struct.pack("<L", 0) + b"PAR1", "cut off"),
    (parquet(GOOD, [column(len(GOOD))], group_rows=9), "its row groups have another number of rows"),
    (parquet(GOOD, [column(len(GOOD))], num_rows=-1), "a number is missing or negative"),
    (parquet(GOOD, [column(10**6)]), "a column is longer than the file"),
    (parquet(GOOD, [column(-1)]), "a number is missing or negative"),
    (parquet(GOOD, [column(len(GOOD), data_page=-4)]), "a number is missing or negative"),
    (parquet(GOOD, [column(len(GOOD) - 1)]), "cut off"),
    (parquet(GOOD, [column(len(GOOD), kind=b"int")]), "a number is missing or negative"),
    (parquet(GOOD + b"\0", [column(len(GOOD) + 1)]), "a number is missing"),
    (parquet(data_page(10, -40), [column(len(GOOD))]), "a number is missing or negative"),
    (parquet(data_page(-10, 40), [column(len(GOOD))]), "a number is missing or negative"),
    (parquet(data_page(10, 40, encoding=7), [column(len(GOOD))]), "an encoding that is not read"),
    (parquet(data_page(10, 40, encoding=4), [column(len(GOOD))]), "an encoding that is not read"),
    (parquet(data_page_v2(10, 40, encoding=7), [column(len(data_page_v2(10, 40)))]), "an encoding that is not read"),
    (one_page({1: 1, 2: 0, 3: 0}), "a page of an unknown kind"),
    (one_page({1: 4, 2: 0, 3: 0}), "a page of an unknown kind"),
    (one_page({1: 0, 2: 0, 3: 0}), "a header is missing"),
    (one_page({1: 0, 2: 0, 3: 0, 8: {1: 1, 2: 0}}), "a header is missing"),
    (one_page({1: 0, 2: 0, 3: 1, 5: {1: 1, 2: 0}}), "a page is longer than its column"),
    (parquet(GOOD, [], footer={3: 0, 4: 5}), "a list of headers is missing"),
    (parquet(GOOD, [], footer={3: 0, 4: [1]}), "a list of headers is missing"),
    (parquet(GOOD, [], footer={3: 1, 4: [{1: [{2: 0}], 3: 1}]}), "a header is missing"),
]


@pytest.mark.parametrize(("data", "message"), DAMAGED, ids=[str(number) for number in range(len(DAMAGED))])
def test_damaged_headers_are_refused(data: bytes, message: str):
    with pytest.raises(HeaderError, match=message):
        read_headers(data)


@pytest.mark.parametrize(
    ("footer", "message"),
    [
        (b"\x1c" * 40, "nested too deeply"),
        (b"\x19\xfc\xff\xff\xff\xff\x0f", "a list is longer than the file"),
        (b"\x16" + b"\xff" * 11, "more than 64 bits"),
        (b"\x1d\x00", "a value of an unknown kind"),
        (b"\x18\x7f", "cut off"),
        (b"\x17\x00", "cut off"),
        (b"\x19\x1c" * 40, "nested too deeply|cut off"),
    ],
)
def test_damaged_structs_are_refused(footer: bytes, message: str):
    with pytest.raises(HeaderError, match=message):
        read_headers(b"PAR1" + footer + struct.pack("<L", len(footer)) + b"PAR1")


def test_values_of_every_kind_are_stepped_over():
    """Booleans, bytes, short ints, doubles, sets and lists of booleans, beside the field that counts."""
    values = {1: b"", 2: b"", 3: b"\x07", 4: b"\x02", 5: b"\x02", 7: bytes(8), 10: b"\x21\x01\x02", 6: varint(10 << 1)}
    fields = (bytes([kind]) + varint((3 if kind == 6 else 20 + kind) << 1) + body for kind, body in values.items())
    footer = b"".join(fields) + b"\0"
    with pytest.raises(HeaderError, match="its row groups have another number of rows than the file"):
        read_headers(b"PAR1" + footer + struct.pack("<L", len(footer)) + b"PAR1")
    empty = footer.replace(varint(10 << 1) + b"\0", b"\0\0")
    assert read_headers(b"PAR1" + empty + struct.pack("<L", len(empty)) + b"PAR1").num_rows == 0


def test_very_many_pages_are_refused(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(parquet_headers, "_MAX_PAGES", 6)
    pages = data_page(5, 40) * 3
    assert read_headers(parquet(pages, [column(len(pages))] * 2)).num_rows == 10
    with pytest.raises(HeaderError, match="more than 6 pages"):
        read_headers(parquet(pages, [column(len(pages))] * 3))


def test_random_damage_is_refused_or_read_but_never_another_error():
    rng = np.random.default_rng(0)
    data = written(pa.table({"i": np.arange(50), "t": [f"t{row % 3}" for row in range(50)]}))
    refused = 0
    for _ in range(1500):
        damaged = bytearray(data)
        for place in rng.integers(0, len(data), 3):
            damaged[place] = rng.integers(0, 256)
        try:
            read_headers(bytes(damaged))
        except HeaderError:
            refused += 1
    assert 300 < refused < 1500
