"""One table of a trace as one Parquet file, and back, exactly. What comes in is not trusted."""

from collections.abc import Mapping, Sequence
from typing import Any, Final, TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from uoe_model.errors import TraceFormatError
from uoe_model.parquet_headers import HeaderError, Unpacked, read_headers
from uoe_model.trace import (
    SCHEMA_VERSION,
    Check,
    ReferenceTable,
    RunRecord,
    SiteTable,
    Table,
    UnitTable,
    column_types,
    text_column,
)

AnyTable = TypeVar("AnyTable", bound=Table)

_TEXT_TYPES: Final = (pa.string(), pa.large_string(), pa.string_view())


def _required(*columns: tuple[str, Any]) -> list[Any]:
    return [pa.field(name, kind, nullable=False) for name, kind in columns]


def _list_of(*columns: tuple[str, Any]) -> Any:
    return pa.list_(pa.field("element", pa.struct(_required(*columns)), nullable=False))


_RUN_SCHEMA: Final = pa.schema(
    [
        *_required(("schema_version", pa.int64())),
        *_required(*((name, pa.string()) for name in ("source", "model", "revision", "weights_digest", "adapter"))),
        *_required(*((name, pa.string()) for name in ("dtype", "device", "backend"))),
        pa.field("seed", pa.int64(), nullable=True),
        *_required(("library_versions", _list_of(("key", pa.string()), ("value", pa.string())))),
        *_required(("input_digest", pa.string())),
        *_required(("timings_ms", _list_of(("key", pa.string()), ("value", pa.float64())))),
        *_required(("self_check", _list_of(("name", pa.string()), ("passed", pa.bool_()), ("detail", pa.string())))),
        *_required(("notes", _list_of(("key", pa.string()), ("value", pa.string())))),
    ]
)
_PAIRS: Final = ("library_versions", "timings_ms", "notes")  # stored as lists of key and value, which everyone reads
_LOGIT_SCHEMA: Final = pa.schema(
    _required(
        ("site_id", pa.int16()),
        ("unit_id", pa.int32()),
        ("logits", pa.list_(pa.field("element", pa.float32(), nullable=False))),
    )
)


def write_run(run: RunRecord) -> bytes:
    """Write the run record, one row."""
    row: dict[str, Any] = {name: getattr(run, name) for name in _RUN_SCHEMA.names}
    for name in _PAIRS:
        row[name] = [{"key": key, "value": value} for key, value in row[name].items()]
    row["self_check"] = [{"name": item.name, "passed": item.passed, "detail": item.detail} for item in run.self_check]
    return _write(pa.Table.from_pylist([row], schema=_RUN_SCHEMA))


def read_run(data: bytes, max_bytes: int) -> RunRecord:
    """Read the run record; another schema version is refused before anything else is asked of the file."""
    file, unpacked = _open("run", data, max_bytes)
    if unpacked.num_rows != 1:
        raise TraceFormatError(f"run.parquet has {unpacked.num_rows} rows, must have 1")
    if "schema_version" not in file.schema_arrow.names:
        raise TraceFormatError("run.parquet has no column schema_version")
    version = _read("run", file, ["schema_version"]).column(0)[0].as_py()
    if version != SCHEMA_VERSION:
        newer = isinstance(version, int) and version > SCHEMA_VERSION
        advice = "a newer program wrote it, update this one" if newer else "run the input again and save it anew"
        raise TraceFormatError(f"schema_version={version!r}, this program reads {SCHEMA_VERSION}: {advice}")
    _check_columns("run", file, {field.name: [field.type] for field in _RUN_SCHEMA})
    row = _read("run", file, nullable=("seed",)).to_pylist()[0]
    for name in _PAIRS:
        pairs = row[name]
        row[name] = {pair["key"]: pair["value"] for pair in pairs}
        if len(row[name]) < len(pairs):
            raise TraceFormatError(f"run.parquet: {name} has a key twice")
    return RunRecord(**row | {"self_check": tuple(Check(**check) for check in row["self_check"])})


def write_table(table: Table) -> bytes:
    """Write the columns of a table; one that is None is left out."""
    columns = {name: pa.array(column, _arrow_type(column.dtype)) for name, column in table.columns().items()}
    if isinstance(table, ReferenceTable):
        columns = {"dataset": pa.array([table.dataset] * len(table), pa.string()), **columns}
    schema = pa.schema(_required(*((name, column.type) for name, column in columns.items())))
    return _write(pa.table(columns, schema=schema))


def read_table(kind: type[AnyTable], name: str, data: bytes, max_bytes: int) -> AnyTable:
    """Read a table of one kind; columns must have exactly the dtypes of that kind."""
    types = column_types(kind)
    texts = [column for column, (dtype, _) in types.items() if dtype == np.object_]
    if kind is ReferenceTable:
        texts.append("dataset")
    file, _ = _open(name, data, max_bytes, texts)
    allowed = {column: [_arrow_type(dtype)] for column, (dtype, _) in types.items()}
    allowed |= {column: [*_TEXT_TYPES, *(pa.dictionary(pa.int32(), text) for text in _TEXT_TYPES)] for column in texts}
    absent = [column for column, (_, optional) in types.items() if optional and column not in file.schema_arrow.names]
    _check_columns(name, file, {column: types for column, types in allowed.items() if column not in absent})
    table = _read(name, file)
    values: dict[str, Any] = dict.fromkeys(absent)
    for column in table.column_names:
        values[column] = _texts(table[column]) if column in texts else table[column].to_numpy()
    if kind is ReferenceTable:
        datasets = set(values.pop("dataset").tolist())
        if len(datasets) != 1:
            raise TraceFormatError(f"{name}.parquet: dataset must be one name in every row, not {len(datasets)} names")
        values["dataset"] = datasets.pop()
    return kind(**values)


def write_logits(router_logits: Mapping[int, NDArray[np.float32]], units: UnitTable) -> bytes:
    """Write the router logits of all sites that have them: a row per site and unit, a list over experts."""
    site_ids = sorted(router_logits)
    widths = [router_logits[site_id].shape[1] for site_id in site_ids]
    ends = np.cumsum(np.repeat(np.array(widths, dtype=np.int64), len(units)))
    if len(ends) and ends[-1] >= 2**31:
        raise TraceFormatError(
            f"router_logits hold {ends[-1]} numbers, a file takes fewer than 2**31: save without them"
        )
    offsets = np.concatenate([np.zeros(1, dtype=np.int32), ends.astype(np.int32)])
    values = np.concatenate([router_logits[site_id].ravel() for site_id in site_ids])
    columns = {
        "site_id": np.repeat(np.array(site_ids, dtype=np.int16), len(units)),
        "unit_id": np.tile(units.unit_id, len(site_ids)),
        "logits": pa.ListArray.from_arrays(offsets, values, type=_LOGIT_SCHEMA.field("logits").type),
    }
    names = {"site_ids": " ".join(map(str, site_ids))}  # known even if there are no units
    return _write(pa.table(columns, schema=_LOGIT_SCHEMA), names)


def read_logits(data: bytes, sites: SiteTable, units: UnitTable, max_bytes: int) -> dict[int, NDArray[np.float32]]:
    """Read the router logits as one matrix per site."""
    file, unpacked = _open("router_logits", data, max_bytes)
    _check_columns("router_logits", file, {field.name: [field.type] for field in _LOGIT_SCHEMA})
    known = sites.site_id.tolist()
    words = unpacked.metadata.get("site_ids", "").split()
    site_ids = [site_id for site_id in known if str(site_id) in words]
    rows = len(site_ids) * len(units)
    if [str(site_id) for site_id in site_ids] != words or unpacked.num_rows != rows:
        raise TraceFormatError("router_logits.parquet must name its site_ids and have one row per site and unit")
    table = _read("router_logits", file)
    widths = sites.num_experts[site_ids].astype(np.int64)
    logits = table["logits"].combine_chunks()
    if not (
        np.array_equal(table["site_id"].to_numpy(), np.repeat(site_ids, len(units)))
        and np.array_equal(table["unit_id"].to_numpy(), np.tile(units.unit_id, len(site_ids)))
        and np.array_equal(logits.value_lengths().to_numpy(zero_copy_only=False), np.repeat(widths, len(units)))
    ):
        raise TraceFormatError("router_logits.parquet must have num_experts logits per row, sorted by site_id, unit_id")
    values = logits.flatten().to_numpy(zero_copy_only=False)
    ends = np.cumsum(widths * len(units))
    return {
        site_id: values[end - width * len(units) : end].reshape(len(units), width)
        for site_id, width, end in zip(site_ids, widths.tolist(), ends.tolist(), strict=True)
    }


def _arrow_type(dtype: np.dtype[Any]) -> Any:
    return pa.string() if dtype == np.object_ else pa.from_numpy_dtype(dtype)


def _write(table: Any, metadata: Mapping[str, str] | None = None) -> bytes:
    """Write Parquet: zstd, ascending unit ids as differences, floats by byte, dictionaries for the rest."""
    sink = pa.BufferOutputStream()
    floats = [field.name for field in table.schema if pa.types.is_floating(field.type)]
    encodings = dict.fromkeys(floats, "BYTE_STREAM_SPLIT")
    if "unit_id" in table.column_names:
        encodings["unit_id"] = "DELTA_BINARY_PACKED"
    if "logits" in table.column_names:
        encodings["logits.list.element"] = "BYTE_STREAM_SPLIT"
    dictionaries = [name for name in table.column_names if name not in encodings and name != "logits"]
    options = {"compression": "zstd", "use_dictionary": dictionaries, "column_encoding": encodings}
    with pq.ParquetWriter(sink, table.schema, store_schema=False, **options) as writer:
        writer.write_table(table)
        writer.add_key_value_metadata(metadata or {})
    return bytes(sink.getvalue().to_pybytes())


def _open(name: str, data: bytes, max_bytes: int, texts: Sequence[str] = ()) -> tuple[Any, Unpacked]:
    """Open a Parquet file after looking at what its headers promise to unpack to."""
    try:
        unpacked = read_headers(data, texts)
        if unpacked.num_bytes > max_bytes:
            size = f"{unpacked.num_bytes:,} bytes, at most {max_bytes:,} are allowed"
            raise TraceFormatError(f"{name}.parquet would unpack to about {size}")
        found = pq.ParquetFile(pa.BufferReader(data)).schema_arrow.names
        shared = [column for column in texts if column in found]
        return pq.ParquetFile(pa.BufferReader(data), read_dictionary=shared), unpacked
    except HeaderError as error:
        raise TraceFormatError(f"{name}.parquet is no readable Parquet file: {error}") from error
    except (pa.ArrowException, OSError, ValueError, KeyError) as error:
        raise TraceFormatError(f"{name}.parquet is no readable Parquet file") from error


def _check_columns(name: str, file: Any, allowed: Mapping[str, list[Any]]) -> None:
    """Refuse missing, unknown, repeated, and wrongly typed columns, all named together."""
    found = file.schema_arrow
    problems = []
    missing = [column for column in allowed if column not in found.names]
    unknown = sorted({column for column in found.names if column not in allowed or found.names.count(column) > 1})
    if missing:
        problems.append(f"has no column {', '.join(missing)}")
    if unknown:
        problems.append(f"has unknown or repeated columns {', '.join(unknown)}")
    for field in found:
        types = allowed.get(field.name, [field.type])
        if field.type not in types:
            problems.append(f"column {field.name} is {field.type}, must be {types[0]}")
    if problems:
        raise TraceFormatError(f"{name}.parquet " + "; ".join(problems))


def _read(name: str, file: Any, columns: list[str] | None = None, nullable: tuple[str, ...] = ()) -> Any:
    """Decode columns; a null is refused, because missing numbers are NaN and missing ids -1."""
    try:
        table = file.read(columns)
        table.validate(full=True)
    except (pa.ArrowException, OSError, ValueError) as error:
        raise TraceFormatError(f"{name}.parquet is damaged") from error
    for column in table.column_names:
        if table[column].null_count and column not in nullable:
            raise TraceFormatError(
                f"{name}.parquet: column {column} has {table[column].null_count} nulls, none allowed"
            )
    return table


def _texts(column: Any) -> NDArray[np.object_]:
    """Unpack strings; equal strings share one object."""
    parts = [np.empty(0, dtype=np.object_)]
    for chunk in column.chunks:
        if pa.types.is_dictionary(chunk.type):
            parts.append(text_column(chunk.dictionary.to_pylist())[chunk.indices.to_numpy()])
        else:
            parts.append(text_column(chunk.to_pylist()))
    return np.concatenate(parts)
