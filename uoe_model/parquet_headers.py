"""What a Parquet file says it will unpack to, read from all of its headers before a decoder is trusted with it.

Parquet headers are Thrift structs in the compact protocol (github.com/apache/parquet-format, parquet.thrift). Arrow
ends the whole process when some of its accessors meet a damaged footer, and footers say nothing about single pages, so
both are read here, slowly and without believing a number.
"""

import dataclasses
import struct
from collections.abc import Collection, Mapping
from typing import Any, Final

_BYTE_ARRAY: Final = 6
_ENCODINGS: Final = (0, 2, 3, 5, 6, 8, 9)  # not DELTA_BYTE_ARRAY: a few bytes can repeat a long prefix in every value
_DATA_PAGE, _INDEX_PAGE, _DICTIONARY_PAGE, _DATA_PAGE_V2 = range(4)
_MAX_DEPTH: Final = 12
_MAX_PAGES: Final = 100_000


class HeaderError(Exception):
    """The headers contradict each other or the length of the file."""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Unpacked:
    """What a file declares: an upper bound of the memory its decoded columns need, its rows, and its own notes."""

    num_bytes: int
    num_rows: int
    metadata: Mapping[str, str]


def read_headers(data: bytes, shared: Collection[str] = ()) -> Unpacked:
    """Add up what the footer and every page header declare.

    Args:
        shared: columns whose equal strings will share memory, because they are decoded as a dictionary.

    Raises:
        HeaderError: the bytes are no Parquet file, or its headers are damaged.
    """
    if len(data) < 12 or data[:4] != b"PAR1" or data[-4:] != b"PAR1":
        raise HeaderError("no Parquet file")
    (length,) = struct.unpack("<L", data[-8:-4])
    if length > len(data) - 12:
        raise HeaderError("the footer is longer than the file")
    footer = _Reader(data, len(data) - 8 - length, len(data) - 8).struct()
    num_rows = _number(footer, 3)
    chunks = [(chunk, group) for group in _structs(footer, 4) for chunk in _structs(group, 1)]
    if sum(_number(group, 3) for group in _structs(footer, 4)) != num_rows:
        raise HeaderError("its row groups have another number of rows than the file")
    num_bytes, pages_left = 0, _MAX_PAGES
    for chunk, group in chunks:
        size, pages = _chunk_size(data, _struct(chunk, 3), _number(group, 3), shared, pages_left)
        num_bytes += size
        pages_left -= pages
    notes = {_text(pair, 1): _text(pair, 2) for pair in _structs(footer, 5)}
    return Unpacked(num_bytes=num_bytes, num_rows=num_rows, metadata=notes)


def _chunk_size(
    data: bytes, column: dict[int, Any], num_rows: int, shared: Collection[str], pages_left: int
) -> tuple[int, int]:
    """Bound the decoded bytes of one column of one row group by walking its pages; also count them."""
    if num_rows == 0 and _number(column, 5) == 0:
        return 0, 0
    place = _number(column, 9)
    if 11 in column and 0 < _number(column, 11) < place:
        place = _number(column, 11)
    end = place + _number(column, 7)
    if end > len(data):
        raise HeaderError("a column is longer than the file")
    size = num_values = num_pages = dictionary_size = 0
    while place < end:
        num_pages += 1
        if num_pages > pages_left:
            raise HeaderError(f"more than {_MAX_PAGES} pages")
        reader = _Reader(data, place, end)
        header = reader.struct()
        kind, page_size = _number(header, 1), _number(header, 2)
        size += page_size
        if kind == _DICTIONARY_PAGE:
            dictionary_size += page_size
            num_values += _number(_struct(header, 7), 1)
        elif kind in (_DATA_PAGE, _DATA_PAGE_V2):
            page = _struct(header, 5 if kind == _DATA_PAGE else 8)
            num_values += _number(page, 1)
            if _number(page, 2 if kind == _DATA_PAGE else 4) not in _ENCODINGS:
                raise HeaderError("a page has an encoding that is not read")
        else:
            raise HeaderError("a page of an unknown kind")
        place = reader.place + _number(header, 3)
    if place > end:
        raise HeaderError("a page is longer than its column")
    if _number(column, 1) == _BYTE_ARRAY and column.get(3) not in [[name.encode()] for name in shared]:
        size += num_values * dictionary_size  # every value may be the longest of its dictionary
    return size + 8 * (num_values + num_rows), num_pages


def _number(fields: dict[int, Any], field: int) -> int:
    value = fields.get(field)
    if type(value) is not int or value < 0:
        raise HeaderError("a number is missing or negative")
    return value


def _struct(fields: dict[int, Any], field: int) -> dict[int, Any]:
    value = fields.get(field)
    if not isinstance(value, dict):
        raise HeaderError("a header is missing")
    return value


def _structs(fields: dict[int, Any], field: int) -> list[dict[int, Any]]:
    value = fields.get(field, [])
    if not isinstance(value, list) or not all(isinstance(item, dict) for item in value):
        raise HeaderError("a list of headers is missing")
    return value


def _text(fields: dict[int, Any], field: int) -> str:
    value = fields.get(field, b"")
    return value.decode(errors="replace") if isinstance(value, bytes) else ""


class _Reader:
    """Thrift's compact protocol: structs become {field id: value}, unknown fields included."""

    def __init__(self, data: bytes, place: int, end: int) -> None:
        self.data, self.place, self.end = data, place, end

    def struct(self, depth: int = 0) -> dict[int, Any]:
        if depth > _MAX_DEPTH:
            raise HeaderError("headers are nested too deeply")
        fields: dict[int, Any] = {}
        field = 0
        while True:
            head = self._take(1)[0]
            if head == 0:
                return fields
            field = field + (head >> 4) if head >> 4 else self._signed()
            kind = head & 15
            fields[field] = kind == 1 if kind in (1, 2) else self._value(kind, depth)

    def _value(self, kind: int, depth: int) -> Any:
        if kind in (1, 2, 3):
            return self._take(1)[0]
        if kind in (4, 5, 6):
            return self._signed()
        if kind == 7:
            return self._take(8)
        if kind == 8:
            return self._take(self._varint())
        if kind in (9, 10):
            head = self._take(1)[0]
            count = head >> 4 if head >> 4 < 15 else self._varint()
            if count > self.end - self.place:  # every element has at least one byte
                raise HeaderError("a list is longer than the file")
            return [self._value(head & 15, depth + 1) for _ in range(count)]
        if kind == 12:
            return self.struct(depth + 1)
        raise HeaderError("a value of an unknown kind")

    def _signed(self) -> int:
        number = self._varint()
        return (number >> 1) ^ -(number & 1)

    def _varint(self) -> int:
        number = shift = 0
        while True:
            byte = self._take(1)[0]
            number |= (byte & 127) << shift
            if byte < 128:
                return number
            shift += 7
            if shift > 63:
                raise HeaderError("a number of more than 64 bits")

    def _take(self, count: int) -> bytes:
        if count > self.end - self.place:
            raise HeaderError("the headers are cut off")
        self.place += count
        return self.data[self.place - count : self.place]
