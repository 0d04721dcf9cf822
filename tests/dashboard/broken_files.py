"""Makers of files that cannot be used: the good file first, then what is wrong with it."""

import io
import json
import struct
import warnings
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import yaml
from PIL import Image

from analysis.exhibit import Exhibit
from analysis.exports.bundle import save_bundle
from analysis.recorded_run import RecordedRun
from tests.traces import make_trace
from uoe_model.result import Candidate, ImageInput, TextInput, TextPrediction
from uoe_model.trace_io import save_trace

ROUTES = "L0.attention: 0>E0,E1 1>E1 2>E0; L0.mlp: 0>E1 1>E1 2>E1!,E0"
PIXELS = np.random.default_rng(0).integers(0, 256, (30, 40, 3), dtype=np.uint8)


# Pictures ------------------------------------------------------------------------------------------------------------


def picture(file_format: str, mode: str = "RGB", **options: Any) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(PIXELS).convert(mode).save(stream, file_format, **options)
    return stream.getvalue()


def cut(data: bytes, share: float) -> bytes:
    """The beginning of a file."""
    return data[: int(len(data) * share)]


def changed_at(data: bytes, place: int, new: bytes) -> bytes:
    return data[:place] + new + data[place + len(new) :]


def png_chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def png(width: int, height: int, pixels: bytes | None = None, *, depth: int = 8, kind: int = 2) -> bytes:
    """A PNG that says it has this size; without pixels it holds next to nothing."""
    header = struct.pack(">IIBBBBB", width, height, depth, kind, 0, 0, 0)
    body = zlib.compress(b"\0" * 1000 if pixels is None else pixels, 9)
    return b"\x89PNG\r\n\x1a\n" + png_chunk(b"IHDR", header) + png_chunk(b"IDAT", body) + png_chunk(b"IEND", b"")


def gif_header(width: int, height: int) -> bytes:
    return b"GIF89a" + struct.pack("<HHBBB", width, height, 0, 0, 0) + b";"


def bmp_header(width: int, height: int) -> bytes:
    return b"BM" + struct.pack("<IHHIIiiHHIIiiII", 54, 0, 0, 54, 40, width, height, 1, 24, 0, 0, 0, 0, 0, 0)


# Tables --------------------------------------------------------------------------------------------------------------


def parquet(columns: Mapping[str, Sequence[Any]] | Any, **options: Any) -> bytes:
    stream = io.BytesIO()
    pq.write_table(columns if isinstance(columns, pa.Table) else pa.table(dict(columns)), stream, **options)
    return stream.getvalue()


def twice_the_same_column() -> bytes:
    return parquet(pa.Table.from_arrays([pa.array(["a"]), pa.array(["b"])], names=["text", "text"]))


def one_string_in_every_row() -> bytes:
    """A few kilobytes whose 64 rows are 3 million letters each."""
    rows = pa.DictionaryArray.from_arrays(pa.array([0] * 64, "int32"), ["x" * 3_000_000])
    return parquet({"text": rows}, compression="zstd", dictionary_pagesize_limit=1 << 28, write_statistics=False)


def zeros_in_few_pages() -> bytes:
    """A few kilobytes that unpack to 400 million bytes."""
    values = pa.array(np.zeros(50_000_000, dtype=np.int64))
    return parquet(pa.table({"n": values}), compression="zstd", use_dictionary=False)


# Zips ----------------------------------------------------------------------------------------------------------------


def zipped(files: Mapping[str, bytes], compression: int = zipfile.ZIP_DEFLATED) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", compression) as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return stream.getvalue()


def members(data: bytes) -> dict[str, bytes]:
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def changed(data: bytes, changes: Mapping[str, bytes | None]) -> bytes:
    """The zip with some members replaced or added, or left out for None."""
    files = {**members(data), **changes}
    return zipped({name: content for name, content in files.items() if content is not None})


def encrypted(data: bytes) -> bytes:
    """The zip with its members marked as encrypted."""
    marked = bytearray(data)
    for mark, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        place = -1
        while (place := data.find(mark, place + 1)) >= 0:
            marked[place + offset] |= 1
    return bytes(marked)


def promising(data: bytes, size: int) -> bytes:
    """The zip, whose last member says that it unpacks to so many bytes."""
    return changed_at(data, data.rindex(b"PK\x01\x02") + 24, struct.pack("<I", size))


def twice_named(name: str) -> bytes:
    stream = io.BytesIO()
    with warnings.catch_warnings(), zipfile.ZipFile(stream, "w") as archive:
        warnings.simplefilter("ignore")
        for content in members(trace()).items():
            archive.writestr(*content)
        archive.writestr(name, b"again")
    return stream.getvalue()


# Saved runs ----------------------------------------------------------------------------------------------------------


def trace() -> bytes:
    stream = io.BytesIO()
    save_trace(make_trace(ROUTES, num_experts=2, capacity=2), stream)
    return stream.getvalue()


def trace_with(name: str, **columns: Any) -> bytes:
    """A trace with columns of one table replaced or added; None takes one away."""
    table = pq.read_table(io.BytesIO(members(trace())[f"{name}.parquet"]))
    for column, values in columns.items():
        if column in table.column_names:
            place = table.column_names.index(column)
            table = table.remove_column(place)
        if values is not None:
            table = table.append_column(column, values)
    return changed(trace(), {f"{name}.parquet": parquet(table)})


def bundle(*, with_picture: bool = False) -> bytes:
    text = TextInput(text="one two three", name="a text")
    picture_input = ImageInput(
        pixels=PIXELS, model_pixels=PIXELS[:8, :8], name="a", fit="crop", original_width=40, original_height=30
    )
    run = RecordedRun(
        name="a text",
        trace=make_trace(ROUTES, num_experts=2, capacity=2),
        prediction=TextPrediction(
            next_candidates=(Candidate(token_id=5, text=" of", probability=0.5),),
            continuation=" four",
            mean_loss=1.5,
            bits_per_byte=2.5,
        ),
        input=picture_input if with_picture else text,
    )
    stream = io.BytesIO()
    save_bundle(Exhibit(runs=(run,)), stream)
    return stream.getvalue()


def bundle_with(changes: Mapping[str, bytes | None]) -> bytes:
    return changed(bundle(), changes)


def bundle_record(**changes: Any) -> bytes:
    """A bundle whose record has other fields."""
    record = yaml.safe_load(members(bundle())["run.yaml"])
    return bundle_with({"run.yaml": yaml.safe_dump(record | changes).encode()})


def bundle_prediction(**changes: Any) -> bytes:
    """A bundle whose answer of the model has other fields; None takes one away."""
    answer = json.loads(members(bundle())["runs/0/prediction.json"]) | changes
    kept = {name: value for name, value in answer.items() if value is not None}
    return bundle_with({"runs/0/prediction.json": json.dumps(kept).encode()})


def bundle_picture(**files: bytes | None) -> bytes:
    """A bundle of a picture with other files: `picture_png`, `model_picture_png`, `picture_json`."""
    renamed = {f"runs/0/{name[::-1].replace('_', '.', 1)[::-1]}": content for name, content in files.items()}
    return changed(bundle(with_picture=True), renamed)
