"""Inputs that cannot be used, of every kind the page takes, and what its one sentence must say; data only."""

import dataclasses
import functools
import gzip
import json
import pickle
import zipfile
import zlib
from collections.abc import Callable, Mapping
from typing import Any, Literal

import numpy as np
import pyarrow as pa

from tests.dashboard.broken_files import (
    bmp_header,
    bundle,
    bundle_picture,
    bundle_prediction,
    bundle_record,
    bundle_with,
    changed,
    changed_at,
    cut,
    encrypted,
    gif_header,
    members,
    one_string_in_every_row,
    parquet,
    picture,
    png,
    png_chunk,
    promising,
    trace,
    trace_with,
    twice_named,
    twice_the_same_column,
    zeros_in_few_pages,
    zipped,
)

Kind = Literal["Text", "Files", "Images", "Saved", "link", "settings"]


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class BadInput:
    """One input.

    Attributes:
        kind: the source that the visitor chooses, an opened link, or settings of a run.
        case: what is wrong with it. name: of the file.
        make: the text, the file's content, the link's parameters, or the settings by their widget.
        words: part of the sentence; "" for links that just show the page, and settings that fall back to allowed ones.
    """

    kind: Kind
    case: str
    make: Callable[[], Any]
    words: str
    name: str = ""


def _group(kind: Kind, *rows: tuple[Any, ...]) -> tuple[BadInput, ...]:
    """Rows of case, file name (files only), content or its maker, words."""
    found = []
    for case, *name, content, words in rows:
        make = content if callable(content) else functools.partial(_same, content)
        found.append(BadInput(kind=kind, case=case, make=make, words=words, name=name[0] if name else ""))
    return tuple(found)


def _same(content: Any) -> Any:
    return content


def _lines(*records: object) -> bytes:
    return "\n".join(json.dumps(record) for record in records).encode()


TEXTS = _group(
    "Text",
    ("empty", "", "is empty"),
    ("a NUL at the start", "\0abc", "NUL character at position 0"),
    ("a NUL between emoji", "🦊\0🦊", "NUL character at position 1"),
    ("one character too long", "a" * 200_001, "200,001 characters"),
    ("ten megabytes", lambda: "word " * 2_000_000, "10,000,000 characters"),
    ("a long text of newlines", "\n" * 300_000, "300,000 characters"),
)

_UTF16 = "Grüße aus Köln".encode("utf-16")
FILES = _group(
    "Files",
    ("empty", "empty.txt", b"", "empty.txt is empty"),
    ("only a byte order mark", "mark.txt", b"\xef\xbb\xbf", "mark.txt is empty"),
    ("UTF-16 with a mark", "wide.txt", _UTF16, "text in UTF-16"),
    ("UTF-16 without a mark", "wide.txt", "plain words".encode("utf-16-le"), "UTF-16"),
    ("big-endian UTF-16", "wide.txt", b"\xfe\xff" + "words".encode("utf-16-be"), "UTF-16"),
    ("UTF-32", "wide.txt", "words".encode("utf-32"), "wide.txt"),
    ("Latin-1", "latin.txt", "un café".encode("latin-1"), "byte 0xE9 at position 6"),
    ("Windows-1252 quotes", "quotes.txt", "“yes”".encode("cp1252"), "byte 0x93 at position 0"),
    ("Shift-JIS", "kana.txt", "こんにちは".encode("shift-jis"), "not UTF-8"),
    ("a surrogate written in bytes", "half.txt", b"ab\xed\xa0\x80", "at position 2"),
    ("an overlong slash", "long.txt", b"a\xc0\xaf", "byte 0xC0 at position 1"),
    ("a character cut off", "end.txt", "ends with ü".encode()[:-1], "not UTF-8"),
    ("a code point beyond Unicode", "beyond.txt", b"\xf4\x90\x80\x80", "byte 0xF4"),
    ("a NUL byte", "nul.txt", b"one\0two", "NUL byte at position 3"),
    ("only NUL bytes", "zeros.txt", bytes(5000), "NUL byte at position 0"),
    ("a program", "tool.txt", b"\x7fELF\x02\x01\x01\xff" + bytes(60), "a program"),
    ("a zip", "notes.txt", lambda: zipped({"a.txt": b"words" * 50}), "ZIP archive"),
    ("a gzip archive", "notes.txt", lambda: gzip.compress(b"words"), "gzip archive"),
    ("a PDF", "paper.txt", b"%PDF-1.7\n%\xe2\xe3\xcf\xd3\n", "a PDF document"),
    ("a PNG", "photo.txt", lambda: picture("PNG"), "a PNG picture"),
    ("a JPEG", "photo.txt", lambda: picture("JPEG"), "a JPEG picture"),
    ("an old Word document", "letter.doc", b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(99), "Office document"),
    ("a Parquet file", "data.txt", lambda: parquet({"text": ["a"] * 9}), "a Parquet file"),
    ("a pickle", "model.txt", lambda: pickle.dumps({"a": 1}), "not UTF-8"),
    ("random bytes", "noise.txt", lambda: np.random.default_rng(0).bytes(3000), "not UTF-8"),
    ("a megabyte", "long.txt", lambda: b"words " * 180_000, "1,080,000 bytes"),
    ("sixteen megabytes", "long.txt", lambda: b"x" * 16_000_000, "16,000,000 bytes"),
    ("markup in its name", "![x](http://e.example/a.png) :red[hi] $x$.txt", b"", "is empty"),
    ("a very long name", "n" * 5000 + ".txt", b"", "n… is empty"),
    ("a name of two lines", "one\ntwo.txt", b"", "one two.txt is empty"),
)

_QUOTED = b'text\n"never closed\n'
TABLES = _group(
    "Files",
    ("an empty CSV", "a.csv", b"", "a.csv is empty"),
    ("a CSV of newlines", "a.csv", b"\n\n\n", "cannot be read as a table"),
    ("a CSV of a header only", "a.csv", b"text,id\n", "holds no text"),
    ("a CSV of blank cells", "a.csv", b"text,id\n ,1\n\t,2\n", "holds no text"),
    ("a quote that is never closed", "a.csv", _QUOTED, "cannot be read as a table"),
    ("rows of different lengths", "a.csv", b"text\na\nb,c,d\n", "cannot be read as a table"),
    ("rows longer than the header", "a.csv", b"text,id\nwords,1,2\nmore,3,4\n", "more fields than its header"),
    ("a CSV in UTF-16", "a.csv", "text\nwords\n".encode("utf-16"), "UTF-16"),
    ("a CSV in Latin-1", "a.csv", "text\ncafé\n".encode("latin-1"), "not UTF-8"),
    ("a CSV with a NUL", "a.csv", b"text\na\0b\n", "NUL byte"),
    ("a spreadsheet called CSV", "a.csv", lambda: zipped({"xl/workbook.xml": b"<w/>"}), "ZIP archive"),
    ("two thousand columns", "a.csv", lambda: b",".join([b"c"] * 2000) + b"\n", "2,000 columns"),
    ("a TSV without text", "a.tsv", b"text\tother\n\t1\n", "holds no text"),
    ("a TSV that is a picture", "a.tsv", lambda: picture("PNG"), "a PNG picture"),
    ("JSON lines that are numbers", "a.jsonl", b"1\n2\n", "JSON object"),
    ("JSON lines that are lists", "a.jsonl", b'["text"]\n', "JSON object"),
    ("one JSON document", "a.jsonl", b'{\n "text": "a"\n}\n', "cannot be read as a table"),
    ("a broken last line", "a.jsonl", b'{"text": "a"}\n{"te', "cannot be read as a table"),
    ("only numbers", "a.jsonl", _lines({"n": 1}, {"n": 2}), "no column with text"),
    ("text that is a list", "a.jsonl", _lines({"text": ["a", "b"]}), "holds no text"),
    ("text that is an object", "a.jsonl", _lines({"text": {"de": "a"}}), "holds no text"),
    ("half a surrogate pair", "a.jsonl", b'{"text": "a\\ud800b"}', "half of a surrogate pair"),
    ("an escaped NUL", "a.jsonl", b'{"text": "a\\u0000b"}', "NUL"),
    ("a number of a million digits", "a.jsonl", lambda: b'{"n": ' + b"9" * 700_000 + b"}", "cannot be read as a table"),
    ("brackets that never end", "a.jsonl", lambda: b"[" * 100_000, "cannot be read as a table"),
    ("a thousand keys", "a.jsonl", lambda: _lines({f"k{n}": "x" for n in range(1000)}), "1,000 columns"),
    ("an empty Parquet file", "a.parquet", b"", "cannot be read as a table"),
    ("a CSV called Parquet", "a.parquet", b"text\nwords\n", "cannot be read as a table"),
    ("a pickle called Parquet", "a.parquet", lambda: pickle.dumps(["text"]), "cannot be read as a table"),
    ("half a Parquet file", "a.parquet", lambda: cut(parquet({"text": ["a"] * 99}), 0.5), "cannot be read as a table"),
    (
        "a Parquet file whose footer is noise",
        "a.parquet",
        lambda: changed_at(parquet({"text": ["a"] * 99}), -60, bytes(range(200, 240))),
        "cannot be read as a table",
    ),
    ("a Parquet file without rows", "a.parquet", lambda: parquet({"text": pa.array([], "string")}), "holds no text"),
    ("a Parquet file of numbers", "a.parquet", lambda: parquet({"n": [1, 2]}), "no column with text"),
    ("a Parquet file of lists", "a.parquet", lambda: parquet({"text": [["a"], ["b"]]}), "holds no text"),
    ("a Parquet file of nulls", "a.parquet", lambda: parquet({"text": pa.array([None], "string")}), "holds no text"),
    ("two columns of one name", "a.parquet", twice_the_same_column, "several columns called 'text'"),
    ("a wide Parquet file", "a.parquet", lambda: parquet({f"c{n}": ["a"] for n in range(300)}), "300 columns"),
    ("one long string in every row", "a.parquet", one_string_in_every_row, "characters"),
    ("a Parquet file that unpacks to 400 MB", "a.parquet", zeros_in_few_pages, "unpack"),
    ("a name that is markup", ":red[x] **y**.csv", b"text\n", "holds no text"),
)

_JPEG = functools.partial(picture, "JPEG")
PICTURES = _group(
    "Images",
    ("an empty file", "a.png", b"", "empty file"),
    ("half a JPEG", "a.jpg", lambda: cut(_JPEG(), 0.6), "damaged or incomplete"),
    ("the head of a JPEG", "a.jpg", lambda: _JPEG()[:20], "a.jpg"),
    ("half a PNG", "a.png", lambda: cut(picture("PNG"), 0.6), "damaged or incomplete"),
    ("half a WebP", "a.webp", lambda: cut(picture("WEBP"), 0.6), "damaged or incomplete"),
    ("half a GIF", "a.gif", lambda: cut(picture("GIF"), 0.5), "damaged or incomplete"),
    ("half a TIFF", "a.tif", lambda: cut(picture("TIFF"), 0.5), "a.tif"),
    ("half a BMP", "a.bmp", lambda: cut(picture("BMP"), 0.6), "damaged or incomplete"),
    ("half a QOI", "a.qoi", lambda: cut(picture("QOI"), 0.5), "damaged or incomplete"),
    ("a PNG with a broken checksum", "a.png", lambda: changed_at(picture("PNG"), 30, b"\0\0"), "a.png"),
    ("a PNG whose data is no zlib", "a.png", lambda: png(9, 9)[:41] + b"not zlib at all....", "damaged or incomplete"),
    ("a PNG without pixels", "a.png", lambda: png(64, 64, b""), "damaged or incomplete"),
    ("a PNG of no width", "a.png", lambda: png(0, 9), "a.png"),
    ("a PNG of an odd depth", "a.png", lambda: png(9, 9, depth=7), "a.png"),
    ("a GIF of no size", "a.gif", lambda: gif_header(0, 0), "a.gif"),
    ("a GIF without a frame", "a.gif", lambda: gif_header(9, 9), "a.gif"),
    ("400 million pixels", "a.png", lambda: png(20_000, 20_000), "400,000,000 pixels"),
    ("3.6 billion pixels", "a.png", lambda: png(60_000, 60_000), "3,600,000,000 pixels"),
    ("a line of 60 million pixels", "a.png", lambda: png(60_000_000, 1), "60,000,000"),
    ("a column of 60 million pixels", "a.png", lambda: png(1, 60_000_000), "60,000,000"),
    ("a vast BMP", "a.bmp", lambda: bmp_header(30_000, 30_000), "a.bmp"),
    ("a BMP of negative width", "a.bmp", lambda: bmp_header(-5, 5), "a.bmp"),
    ("a vast GIF", "a.gif", lambda: gif_header(65_535, 65_535), "a.gif"),
    ("a PNG with a bomb in its comments", "a.png", lambda: _commented(80_000_000), "a.png"),
    ("an SVG drawing", "a.svg", b'<svg xmlns="http://www.w3.org/2000/svg" onload="alert(1)"/>', "an SVG drawing"),
    ("a web page", "a.png", b"<!doctype html><script>alert(1)</script>", "plain text"),
    ("plain text", "a.jpg", b"shopping list", "plain text"),
    ("a PDF", "a.pdf", b"%PDF-1.7\n", "a PDF document"),
    ("PostScript", "a.eps", b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "a PostScript document"),
    ("a video", "a.png", b"\0\0\0\x18ftypmp42" + bytes(40), "a video"),
    ("a HEIC photograph", "a.heic", b"\0\0\0\x18ftypheic" + bytes(40), "HEIC"),
    ("a zip of pictures", "a.png", lambda: zipped({"a.png": picture("PNG")}), "ZIP archive"),
    ("a pickle", "a.png", lambda: pickle.dumps([1]), "binary data"),
    ("noise", "a.png", lambda: np.random.default_rng(1).bytes(500), "a.png"),
    ("the mark of a PNG before noise", "a.png", b"\x89PNG\r\n\x1a\n" + bytes(range(99)), "a PNG picture"),
    ("thirty megabytes", "a.bmp", lambda: bytes(30_000_000), "30,000,000 bytes"),
)


def _commented(size: int) -> bytes:
    comment = png_chunk(b"zTXt", b"Comment\0\0" + zlib.compress(bytes(size), 9))
    return png(9, 9)[:33] + comment + png(9, 9, bytes(9 * 28))[33:]


def _merge_bomb() -> bytes:
    lines = ["a0: &a0 {x: 1}"]
    lines += [f"a{n}: &a{n} {{<<: [{', '.join([f'*a{n - 1}'] * 9)}]}}" for n in range(1, 10)]
    return "\n".join(lines).encode()


def _list_bomb(field: str) -> bytes:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 10)]
    record = members(bundle())["run.yaml"].decode()
    kept = "\n".join(line for line in record.splitlines() if not line.startswith(field.split(":")[0]))
    return "\n".join([*lines, kept, field]).encode()


_RECORD = "format: uoe-run-bundle\nversion: 1\n"
_VALUE = {"replacement": "permuted", "block": "mlp", "capacity": "none", "loss_change": 0.1, "draws": 5, "reason": ""}

TRACES = _group(
    "Saved",
    ("an empty file", "t.zip", b"", "it is empty"),
    ("text", "t.zip", b"hello", "this is something else"),
    ("a picture", "t.zip", lambda: picture("PNG"), "this is something else"),
    ("the mark of a zip", "t.zip", b"PK\x03\x04 something else", "cut off"),
    ("an empty zip", "t.zip", lambda: zipped({}), "missing"),
    ("half a trace", "t.zip", lambda: cut(trace(), 0.5), "cut off"),
    ("a byte changed in the middle", "t.zip", lambda: changed_at(trace(), 4000, b"????"), "t.zip"),
    ("rubbish behind its end", "t.zip", lambda: trace() + b"and more", "cut off"),
    ("no table of units", "t.zip", lambda: changed(trace(), {"units.parquet": None}), "units.parquet missing"),
    ("a table that is text", "t.zip", lambda: changed(trace(), {"sites.parquet": b"x"}), "sites.parquet"),
    ("a table that is a pickle", "t.zip", lambda: changed(trace(), {"units.parquet": pickle.dumps([])}), "units"),
    ("half a table", "t.zip", lambda: changed(trace(), {"units.parquet": cut(_table(), 0.5)}), "units.parquet"),
    ("a column missing", "t.zip", lambda: trace_with("units", position=None), "has no column position"),
    ("a column too many", "t.zip", lambda: trace_with("sites", extra=[[1, 2]]), "extra"),
    ("numbers that are text", "t.zip", lambda: trace_with("assignments", expert_id=[["0"] * 8]), "expert_id"),
    ("a site of no table", "t.zip", lambda: trace_with("sites", site_id=pa.array([0, 9], "int16")), "site_id"),
    ("unknown experts", "t.zip", lambda: trace_with("sites", num_experts=pa.array([1, 1], "int16")), "expert"),
    ("a later version", "t.zip", lambda: trace_with("run", schema_version=pa.array([99])), "newer program"),
    ("an earlier version", "t.zip", lambda: trace_with("run", schema_version=pa.array([0])), "save it anew"),
    ("a path out of the folder", "t.zip", lambda: changed(trace(), {"../evil.parquet": b"x"}), "evil.parquet"),
    ("an absolute path", "t.zip", lambda: changed(trace(), {"/elsewhere/evil.parquet": b"x"}), "evil.parquet"),
    ("a member twice", "t.zip", lambda: twice_named("units.parquet"), "repeated"),
    ("an encrypted zip", "t.zip", lambda: encrypted(trace()), "damaged"),
    ("a zip in a zip", "t.zip", lambda: zipped({"trace.zip": trace()}), "unknown or repeated"),
    ("a zip bomb", "t.zip", lambda: promising(trace(), 3_000_000_000), "unpack"),
    ("another compression", "t.zip", lambda: zipped(members(trace()), zipfile.ZIP_LZMA), "compressed in a way"),
    ("a comment", "t.zip", lambda: changed_at(trace(), -2, b"\x03\0") + b"abc", "comment"),
)


def _table() -> bytes:
    return members(trace())["units.parquet"]


BUNDLES = _group(
    "Saved",
    ("half a bundle", "b.zip", lambda: cut(bundle(), 0.5), "b.zip"),
    ("a record that is no YAML", "b.zip", lambda: bundle_with({"run.yaml": b"{: ["}), "damaged"),
    ("a record that makes objects", "b.zip", lambda: bundle_with({"run.yaml": b"!!python/name:os.system"}), "damaged"),
    ("a record of bytes", "b.zip", lambda: bundle_with({"run.yaml": b"\xff\xfe\xfa"}), "damaged"),
    ("an empty record", "b.zip", lambda: bundle_with({"run.yaml": b""}), "does not describe"),
    ("a record of 2 MB", "b.zip", lambda: bundle_with({"run.yaml": b"x" * 2_000_000}), "larger than"),
    ("a record with a broken number", "b.zip", lambda: bundle_with({"run.yaml": b'version: !!int ""'}), "damaged"),
    ("a record nested too deeply", "b.zip", lambda: bundle_with({"run.yaml": b"[" * 2000}), "damaged"),
    ("a record that unfolds by merging", "b.zip", lambda: bundle_with({"run.yaml": _merge_bomb()}), "damaged"),
    ("a version that unfolds", "b.zip", lambda: bundle_with({"run.yaml": _list_bomb("version: *a9")}), "version"),
    ("a later version of the bundle", "b.zip", lambda: bundle_record(version=2), "version 2"),
    ("a record without runs", "b.zip", lambda: bundle_with({"run.yaml": _RECORD.encode()}), "damaged"),
    ("no runs", "b.zip", lambda: bundle_record(runs=[]), "lists no runs"),
    ("more runs than traces", "b.zip", lambda: bundle_record(runs=[{}, {}]), "damaged"),
    ("no trace", "b.zip", lambda: bundle_with({"runs/0/trace.zip": None}), "damaged"),
    ("a trace that is another zip", "b.zip", lambda: bundle_with({"runs/0/trace.zip": zipped({"a": b""})}), "trace"),
    ("a comparison without a run", "b.zip", lambda: bundle_record(compared_with={"name": "A"}), "damaged"),
    ("values of a word", "b.zip", lambda: bundle_record(routing_value=["much"]), "must be one of"),
    ("values of another kind", "b.zip", lambda: bundle_record(routing_value=[_VALUE | {"block": "all"}]), "block"),
    ("values beyond all", "b.zip", lambda: bundle_record(routing_value=[_VALUE | {"draws": 10**30}]), "damaged"),
    ("an input in Latin-1", "b.zip", lambda: bundle_with({"runs/0/input.txt": b"caf\xe9"}), "damaged"),
    ("an empty input", "b.zip", lambda: bundle_with({"runs/0/input.txt": b""}), "is empty"),
    ("an answer that is no JSON", "b.zip", lambda: bundle_with({"runs/0/prediction.json": b"{"}), "damaged"),
    ("an answer that is a number", "b.zip", lambda: bundle_with({"runs/0/prediction.json": b"7"}), "damaged"),
    ("an answer without a loss", "b.zip", lambda: bundle_prediction(mean_loss=None), "damaged"),
    ("candidates that are words", "b.zip", lambda: bundle_prediction(next_candidates=["of"]), "damaged"),
    ("a continuation of half a pair", "b.zip", lambda: bundle_prediction(continuation="\ud800"), "damaged"),
    ("a label of half a pair", "b.zip", lambda: bundle_prediction(labels=["\udc00"], probabilities=[1]), "damaged"),
    ("too few labels", "b.zip", lambda: bundle_prediction(labels=["a"], probabilities=[1, 0]), "one per label"),
    ("chances above one", "b.zip", lambda: bundle_prediction(labels=["a"], probabilities=[7]), "sum to 1"),
    ("a chance of NaN", "b.zip", lambda: bundle_prediction(labels=["a"], probabilities=[float("nan")]), "sum to 1"),
    ("a picture that is a GIF", "b.zip", lambda: bundle_picture(picture_png=picture("GIF")), "damaged"),
    ("a picture too large", "b.zip", lambda: bundle_picture(picture_png=png(9000, 900)), "9000 x 900 pixels"),
    ("a vast picture", "b.zip", lambda: bundle_picture(picture_png=png(60_000, 60_000)), "damaged"),
    ("half a picture", "b.zip", lambda: bundle_picture(picture_png=cut(picture("PNG"), 0.5)), "damaged"),
    ("no picture of the model", "b.zip", lambda: bundle_picture(model_picture_png=None), "damaged"),
    ("no size of the picture", "b.zip", lambda: bundle_picture(picture_json=b"{}"), "damaged"),
    ("an endless width", "b.zip", lambda: bundle_picture(picture_json=_size("Infinity")), "damaged"),
    ("a negative width", "b.zip", lambda: bundle_picture(picture_json=_size("-4")), "at least 1x1"),
    ("an encrypted bundle", "b.zip", lambda: encrypted(bundle()), "damaged"),
    ("a bundle that is a bomb", "b.zip", lambda: promising(bundle(), 3_000_000_000), "unpacks to"),
    ("three thousand files", "b.zip", lambda: bundle_with({f"{n}": b"" for n in range(3000)}), "files can be opened"),
    ("packed in a broken way", "b.zip", lambda: _broken_lzma(), "damaged"),
)


def _size(width: str) -> bytes:
    return f'{{"fit": "crop", "width": {width}, "height": 30}}'.encode()


def _broken_lzma() -> bytes:
    data = zipped(members(bundle()), zipfile.ZIP_LZMA)
    place = data.index(b"run.yaml") + len("run.yaml")
    return changed_at(data, place + 9, b"\xff" * 12)


def _long(name: str, word: str = "1-") -> Mapping[str, str]:
    return {"show": "text", name: word * 250_000}


LINKS = _group(
    "link",
    ("a run nobody has", {"show": "0123456789abcdef"}, "no longer holds"),
    ("a run of 500,000 letters", lambda: {"show": "a" * 500_000}, "no longer holds"),
    ("a path as a run", {"show": "../../etc/passwd"}, "no longer holds"),
    ("markup as a run", {"show": "<script>alert(1)</script>"}, "no longer holds"),
    ("an empty run", {"show": ""}, "no longer holds"),
    ("a site that is a word", {"show": "text", "site": "first"}, ""),
    ("a site beyond all", {"show": "text", "site": "99999999999999999999"}, ""),
    ("a negative site", {"show": "text", "site": "-1"}, ""),
    ("a site in Arabic digits", {"show": "text", "site": "٣"}, ""),
    ("an input in superscript", {"show": "text", "input": "²"}, ""),
    ("an input of 5,000 digits", lambda: {"show": "text", "input": "9" * 5000}, ""),
    ("experts that do not exist", {"show": "text", "site": "0", "experts": "999-1000"}, ""),
    ("500 KB of experts", lambda: _long("experts"), ""),
    ("500 KB of units", lambda: _long("units"), ""),
    ("500 KB of pins", lambda: _long("pinned", "1.1-"), ""),
    ("pins of markup", {"show": "text", "pinned": "<b>1</b>.2"}, ""),
    ("a status nobody knows", {"show": "text", "status": "sleepy"}, ""),
    ("a status in brackets", {"show": "text", "status": "['dropped']"}, ""),
    ("an atlas nobody knows", {"show": "text", "atlas": "javascript:alert(1)", "strip": "%00", "pooled": "yes"}, ""),
    ("a comparison with nothing", {"show": "text", "a": "..............."}, ""),
    ("a comparison with input 99", {"show": "text", "a": "picture.99"}, ""),
    ("a comparison in Arabic digits", {"show": "text", "a": "picture.٠"}, ""),
    ("a comparison of 5,000 digits", lambda: {"show": "text", "a": "picture." + "0" * 5000}, ""),
    ("parameters nobody knows", {"__proto__": "x", "show ": "text", "Show": "text"}, ""),
    ("letters of other planes", {"show": "text", "site": "\u202e0\ufeff", "units": "🦊-\ufffd"}, ""),
)

SETTINGS = _group(
    "settings",
    ("a temperature that is no number", {"temperature": float("nan")}, ""),
    ("an endless temperature", {"temperature": float("inf")}, ""),
    ("a negative temperature", {"temperature": -0.5}, ""),
    ("a top-p that is no number", {"top_p": float("nan")}, ""),
    ("a top-p above one", {"top_p": 1.5}, ""),
    ("a negative number of tokens", {"new_tokens": -3}, ""),
    ("a billion tokens", {"new_tokens": 10**9}, ""),
    ("a seed below zero", {"seed": -1}, ""),
    ("several at once", {"temperature": -1.0, "top_p": 9.0, "top_k_tokens": -2}, ""),
)

BAD_INPUTS = (*TEXTS, *FILES, *TABLES, *PICTURES, *TRACES, *BUNDLES, *LINKS, *SETTINGS)
