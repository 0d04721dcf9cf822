"""A trace comes back from disk exactly, or not at all; a hostile file becomes one sentence."""

import dataclasses
import io
import os
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.traces import assert_traces_equal, make_reference, make_run, make_trace, random_trace
from uoe_model import parquet_headers
from uoe_model.errors import TraceFormatError
from uoe_model.trace import RoutingTrace
from uoe_model.trace_io import load_trace, save_trace


def full_trace() -> RoutingTrace:
    """Everything present: logits, reference, selection scores, several examples."""
    rng = np.random.default_rng(5)
    return random_trace(
        rng, num_units=40, num_sites=3, with_logits=True, with_reference=True, with_selection_score=True
    )


def saved(trace: RoutingTrace | None = None) -> bytes:
    stream = io.BytesIO()
    save_trace(trace or full_trace(), stream)
    return stream.getvalue()


def members(data: bytes) -> dict[str, bytes]:
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def zipped(files: dict[str, bytes], compression: int = zipfile.ZIP_STORED) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", compression) as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return stream.getvalue()


def with_table(name: str, table: Any, **options: Any) -> bytes:
    """A saved trace whose one table is another Arrow table."""
    sink = io.BytesIO()
    pq.write_table(table, sink, **options)
    return zipped(members(saved()) | {f"{name}.parquet": sink.getvalue()})


def arrow(name: str) -> Any:
    return pq.read_table(io.BytesIO(members(saved())[f"{name}.parquet"]))


def replaced(table: Any, column: str, values: Any) -> Any:
    return table.set_column(table.column_names.index(column), column, values)


def refused(data: bytes, message: str, **options: Any) -> None:
    with pytest.raises(TraceFormatError, match=message) as caught:
        load_trace(io.BytesIO(data), **options)
    assert str(caught.value).startswith("the file is no routing trace that can be read: ")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("seed", range(40))
def test_a_zip_comes_back_exactly(seed: int):
    trace = random_trace(np.random.default_rng(seed))
    assert_traces_equal(load_trace(io.BytesIO(saved(trace))), trace)


def test_a_zip_file_and_a_folder_come_back_exactly(tmp_path: Path):
    trace = full_trace()
    for target in (tmp_path / "a.zip", tmp_path / "b.ZIP", tmp_path / "folder", str(tmp_path / "run.2")):
        save_trace(trace, target)
        assert_traces_equal(load_trace(target), trace)
        save_trace(trace, target)  # over an older trace
        assert_traces_equal(load_trace(target), trace)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.zip", "b.ZIP", "folder", "run.2"]
    assert zipfile.is_zipfile(tmp_path / "a.zip")
    assert sorted(path.name for path in (tmp_path / "folder").iterdir()) == [
        "assignments.parquet",
        "capacities.parquet",
        "reference.parquet",
        "router_logits.parquet",
        "run.parquet",
        "sites.parquet",
        "units.parquet",
    ]


def test_absent_parts_stay_absent():
    trace = make_trace("L0.mlp: 0>E1 1>E0!", num_experts=2)
    trace = dataclasses.replace(trace, run=make_run(seed=None, notes={}, library_versions={}, self_check=()))
    files = members(saved(trace))
    assert sorted(files) == [f"{name}.parquet" for name in ("assignments", "capacities", "run", "sites", "units")]
    assert "selection_score" not in pq.read_schema(io.BytesIO(files["assignments.parquet"])).names
    assert_traces_equal(load_trace(io.BytesIO(saved(trace))), trace)


def test_logits_of_a_trace_without_units_come_back():
    trace = random_trace(np.random.default_rng(0), num_units=0, num_sites=3, with_logits=True)
    trace = dataclasses.replace(trace, router_logits={2: trace.router_logits[2]})
    back = load_trace(io.BytesIO(saved(trace)))
    assert list(back.router_logits) == [2]
    assert_traces_equal(back, trace)


def test_every_bit_of_a_float_comes_back():
    loss = np.array([0x7FC00001, 0x7FC00002, 0xFFC00000, 0x00000001, 0x80000000], np.uint32).view(np.float32)
    trace = make_trace("L0.mlp: 0>E1 1>E0! 2>E0 3>E1 4>E1", num_experts=2)
    trace = dataclasses.replace(
        trace,
        units=dataclasses.replace(trace.units, loss=loss),
        run=make_run(timings_ms={"a": 0.1, "b": 1e-300}, seed=-(2**63)),
    )
    assert_traces_equal(load_trace(io.BytesIO(saved(trace))), trace)


def test_any_text_comes_back():
    pieces = ["\x00", "", "\r\n", "🙂\u200d", "a" * 100_000, "\ufeff", "\uffff"]
    trace = make_trace("L0.mlp: 0>E0", num_experts=1, example_lengths=(7,), pieces=pieces)
    assert load_trace(io.BytesIO(saved(trace))).units.text.tolist() == pieces


def test_the_same_trace_gives_the_same_bytes():
    assert saved() == saved()


def test_what_was_loaded_is_read_only_and_its_texts_are_shared():
    trace = load_trace(io.BytesIO(saved()))
    assert not any(column.flags.writeable for column in trace.assignments.columns().values())
    assert not any(logits.flags.writeable for logits in trace.router_logits.values())
    assert len({id(word) for word in trace.units.phase.tolist()}) == 1


def test_files_are_plain_parquet_with_narrow_types():
    files = members(saved())
    assignments = pd.read_parquet(io.BytesIO(files["assignments.parquet"]))
    found = {name: str(dtype) for name, dtype in assignments.dtypes.items()}
    assert found == {
        "site_id": "int16",
        "unit_id": "int32",
        "rank": "int8",
        "expert_id": "int16",
        "score": "float32",
        "selection_score": "float32",
        "gate": "float32",
        "status": "uint8",
        "inherited": "bool",
    }
    units = pd.read_parquet(io.BytesIO(files["units.parquet"]))
    assert units["text"].tolist() == full_trace().units.text.tolist()
    run = pd.read_parquet(io.BytesIO(files["run.parquet"]))
    assert run["notes"][0][0] == {"key": "training", "value": "trained"}
    chunk = pq.read_metadata(io.BytesIO(files["assignments.parquet"])).row_group(0).column(1)
    assert chunk.path_in_schema == "unit_id"
    assert "DELTA_BINARY_PACKED" in chunk.encodings
    assert chunk.compression == "ZSTD"


@pytest.mark.parametrize("reader", ["polars", "duckdb"])
def test_files_can_be_read_by_others(reader: str, tmp_path: Path):
    module = pytest.importorskip(reader)
    trace = full_trace()
    save_trace(trace, tmp_path / "trace")
    for path in (tmp_path / "trace").iterdir():
        frame = module.read_parquet(path) if reader == "polars" else module.read_parquet(str(path)).pl()
        assert len(frame) == pq.read_metadata(path).num_rows
    path = tmp_path / "trace" / "assignments.parquet"
    frame = module.read_parquet(path) if reader == "polars" else module.read_parquet(str(path)).pl()
    assert frame["unit_id"].to_list() == trace.assignments.unit_id.tolist()


@pytest.mark.parametrize("name", ["trace.zip", "trace"])
def test_a_failed_save_leaves_what_was_there(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    old, new = full_trace(), make_trace("L0.mlp: 0>E1", num_experts=2)
    save_trace(old, tmp_path / name)
    calls = []

    def full_disk(descriptor: int) -> None:
        calls.append(descriptor)
        if len(calls) == (1 if name.endswith("zip") else 3):
            raise OSError("no space left on device")

    monkeypatch.setattr(os, "fsync", full_disk)
    with pytest.raises(OSError, match="no space left"):
        save_trace(new, tmp_path / name)
    assert [path.name for path in tmp_path.iterdir()] == [name]
    assert_traces_equal(load_trace(tmp_path / name), old)


def test_only_a_trace_is_overwritten(tmp_path: Path):
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "cat.jpg").write_bytes(b"cat")
    (tmp_path / "notes").write_text("mine")
    for name, stray in (("photos", "cat.jpg"), ("notes", "notes")):
        with pytest.raises(TraceFormatError, match=f"{name} is not a trace, it holds '{stray}': choose a new name"):
            save_trace(full_trace(), tmp_path / name)
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["cat.jpg", "notes", "photos"]
    assert (tmp_path / "notes").read_text() == "mine"


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "it is empty"),
        (b"Once upon a time there was no trace.", "a trace is a zip of Parquet files, this is something else"),
        (b"\x89PNG\r\n\x1a\n" + bytes(100), "this is something else"),
        (b"PK\x03\x04", "the zip is cut off"),
        (b"PK\x05\x06" + bytes(18), "run.parquet, sites.parquet, units.parquet, capacities.parquet, .* missing"),
    ],
)
def test_a_file_of_another_kind_is_refused(data: bytes, message: str):
    refused(data, message)


def test_a_truncated_file_is_refused():
    data = saved()
    for length in [*range(1, 60), *range(60, len(data), 97), len(data) - 1]:
        refused(data[:length], "cut off|something else")


def test_a_damaged_file_is_refused_or_still_valid():
    """Flipped bytes end in a sentence or in a trace that holds its invariants, never in another error."""
    data, rng, refusals = saved(), np.random.default_rng(0), 0
    for _ in range(60):
        damaged = bytearray(data)
        for place in rng.integers(0, len(data), 3):
            damaged[place] = rng.integers(0, 256)
        try:
            load_trace(io.BytesIO(bytes(damaged)), max_bytes=2**24)
        except TraceFormatError:
            refusals += 1
    assert refusals > 30


def test_damage_inside_a_table_is_refused_or_still_valid():
    """As above, with the zip's checksums made to agree, so that the Parquet reader meets the damage."""
    files, rng, refusals = members(saved()), np.random.default_rng(1), 0
    for _ in range(60):
        name = str(rng.choice(list(files)))
        damaged = bytearray(files[name])
        damaged[int(rng.integers(len(damaged)))] = rng.integers(0, 256)
        try:
            load_trace(io.BytesIO(zipped(files | {name: bytes(damaged)})), max_bytes=2**24)
        except TraceFormatError:
            refusals += 1
    assert refusals > 20


@pytest.mark.parametrize("name", ["run", "sites", "units", "capacities", "assignments"])
def test_a_missing_table_is_named(name: str):
    files = members(saved())
    del files[f"{name}.parquet"]
    refused(zipped(files), f"{name}.parquet missing")


@pytest.mark.parametrize(
    "name", ["../run.parquet", "/run.parquet", "a/run.parquet", "notes.txt", "RUN.parquet", "x" * 9]
)
def test_a_member_of_another_name_is_refused(name: str):
    refused(zipped(members(saved()) | {name: b"?"}), "unknown or repeated file '.*', a trace holds only run.parquet")


def test_a_repeated_member_is_refused():
    files = members(saved())
    stream = io.BytesIO(zipped(files))
    with pytest.warns(UserWarning, match="Duplicate name"), zipfile.ZipFile(stream, "a") as archive:
        archive.writestr("run.parquet", files["run.parquet"])
    refused(stream.getvalue(), "unknown or repeated file 'run.parquet'")


def test_a_zip_of_very_many_members_is_refused_before_it_is_listed(monkeypatch: pytest.MonkeyPatch):
    data = zipped({f"{number}.parquet": b"" for number in range(200)})
    monkeypatch.setattr(zipfile, "ZipFile", None)
    refused(data, "the zip has other members than run.parquet")


def test_a_zip_with_a_comment_or_64_bit_sizes_is_refused():
    stream = io.BytesIO(saved())
    with zipfile.ZipFile(stream, "a") as archive:
        archive.comment = b"hello"
    refused(stream.getvalue(), "has a comment or 64-bit sizes")
    data = saved()
    refused(data[:-22] + b"PK\x06\x07" + bytes(16) + data[-22:], "has a comment or 64-bit sizes")


def test_a_zip_bomb_is_refused_by_its_declared_size():
    bomb = zipped(members(saved()) | {"units.parquet": bytes(2**26)}, zipfile.ZIP_DEFLATED)
    assert len(bomb) < 2**20
    refused(bomb, "the zip would unpack to 67,.* bytes, at most 1,048,576 are allowed", max_bytes=2**20)


def test_a_zip_bomb_that_lies_about_its_size_is_refused():
    files = members(saved())
    bomb = bytearray(zipped(files | {"units.parquet": bytes(2**26)}, zipfile.ZIP_DEFLATED))
    true, lie = (2**26).to_bytes(4, "little"), (1000).to_bytes(4, "little")
    assert bomb.count(true) == 2  # in the member's header and in the table of contents
    refused(bytes(bomb.replace(true, lie)), r"the zip is damaged \(Bad CRC-32", max_bytes=2**20)


def test_a_member_shorter_than_declared_is_refused():
    files = members(saved())
    data = zipped(files, zipfile.ZIP_DEFLATED)
    true = len(files["units.parquet"])
    assert data.count(true.to_bytes(4, "little")) == 2
    lie = data.replace(true.to_bytes(4, "little"), (true + 5).to_bytes(4, "little"))
    refused(lie, "units.parquet has .* bytes, the zip declares|the zip is damaged")


@pytest.mark.parametrize("compression", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_an_unusual_compression_is_refused(compression: int):
    refused(zipped(members(saved()), compression), "only stored or deflated is read")


def test_a_deflated_zip_is_read():
    assert_traces_equal(load_trace(io.BytesIO(zipped(members(saved()), zipfile.ZIP_DEFLATED))), full_trace())


def test_an_encrypted_member_is_refused():
    data = bytearray(saved())
    data[6] |= 1  # flag of the first member
    data[data.index(b"PK\x01\x02") + 8] |= 1
    refused(bytes(data), "the zip is damaged .*encrypted")


def test_a_parquet_bomb_is_refused_by_its_footer():
    rows = 3_000_000
    zeros = pa.array(np.zeros(rows, np.int32))
    names = arrow("capacities").column_names
    bomb = pa.table(dict.fromkeys(names, zeros)).cast(arrow("capacities").schema)
    data = with_table("capacities", bomb)
    assert len(data) < 2**17
    refused(data, "capacities.parquet would unpack to about .* bytes, at most 16,777,216 are allowed", max_bytes=2**24)


def test_very_many_pages_are_refused(monkeypatch: pytest.MonkeyPatch):
    data = with_table("assignments", arrow("assignments"), row_group_size=7)
    monkeypatch.setattr(parquet_headers, "_MAX_PAGES", 100)
    refused(data, "assignments.parquet is no readable Parquet file: more than 100 pages")


def test_a_long_key_in_many_notes_is_refused():
    """A dictionary of one long word and a row that names it often: small on disk, and not one object per word."""
    run = arrow("run")
    notes = [{"key": "x" * 10_000, "value": ""}] * 1000
    data = with_table("run", replaced(run, "notes", pa.array([notes], run.schema.field("notes").type)))
    assert len(data) < 2**16
    refused(data, "run.parquet would unpack to about 1.*, at most 4,194,304 are allowed", max_bytes=2**22)


def test_an_encoding_that_multiplies_text_is_refused():
    options = {"use_dictionary": False, "column_encoding": {"text": "DELTA_BYTE_ARRAY"}}
    refused(with_table("units", arrow("units"), **options), "a page has an encoding that is not read")


def test_a_long_string_in_many_rows_is_stored_once():
    text = arrow("units").column_names.index("label")
    units = arrow("units").set_column(text, "label", pa.array(["x" * 1_000_000] * 40))
    trace = load_trace(io.BytesIO(with_table("units", units)), max_bytes=2**22)
    assert len({id(word) for word in trace.units.label.tolist()}) == 1


def test_a_file_above_the_limit_is_refused(tmp_path: Path):
    data = saved()
    refused(data, "larger than 1,000 bytes", max_bytes=1000)
    save_trace(full_trace(), tmp_path / "trace")
    with pytest.raises(TraceFormatError, match=r"the folder holds .* bytes, at most 1,000 are allowed"):
        load_trace(tmp_path / "trace", max_bytes=1000)


@pytest.mark.parametrize(("version", "advice"), [(2, "a newer program wrote it, update this one"), (0, "save it anew")])
def test_another_schema_version_is_refused_before_its_columns_are_looked_at(version: int, advice: str):
    table = pa.table({"schema_version": pa.array([version]), "novelty": pa.array(["?"])})
    refused(with_table("run", table), f"schema_version={version}, this program reads 1: .*{advice}")


def test_a_broken_run_table_is_refused():
    run = arrow("run")
    refused(with_table("run", run.drop_columns("schema_version")), "run.parquet has no column schema_version")
    refused(with_table("run", pa.concat_tables([run, run])), "run.parquet has 2 rows, must have 1")
    refused(with_table("run", replaced(run, "schema_version", pa.array(["1"]))), "schema_version='1'")
    refused(
        with_table("run", replaced(run, "schema_version", pa.array([None], pa.int64()))), "schema_version has 1 nulls"
    )
    refused(with_table("run", replaced(run, "schema_version", pa.array([1], pa.int8()))), "is int8, must be int64")
    refused(with_table("run", run.drop_columns("model")), "run.parquet has no column model")
    refused(with_table("run", replaced(run, "model", pa.array([None], pa.string()))), "column model has 1 nulls")
    refused(with_table("run", replaced(run, "notes", pa.array(["x"]))), "column notes is string, must be list")
    twice = pa.array([[{"key": "a", "value": "b"}, {"key": "a", "value": "c"}]], run.schema.field("notes").type)
    refused(with_table("run", replaced(run, "notes", twice)), "notes has a key twice")
    late = pa.array([[{"key": "forward", "value": -1.0}]], run.schema.field("timings_ms").type)
    refused(with_table("run", replaced(run, "timings_ms", late)), "RunRecord: timings_ms=.* must be finite")


def test_wrong_columns_are_refused_together():
    table = arrow("assignments").drop_columns("rank")
    table = replaced(table, "gate", table["gate"].cast(pa.float64())).append_column("extra", table["gate"])
    message = (
        "assignments.parquet has no column rank; has unknown or repeated columns extra; column gate is double, must be"
    )
    refused(with_table("assignments", table), message)


def test_a_repeated_column_is_refused():
    table = arrow("capacities")
    table = table.append_column("capacity", table["capacity"])
    refused(with_table("capacities", table), "has unknown or repeated columns capacity")


@pytest.mark.parametrize("column", ["expert_id", "score", "inherited"])
def test_a_null_is_refused(column: str):
    table = arrow("assignments")
    values = [None, *table[column].to_pylist()[1:]]
    table = replaced(table, column, pa.array(values, table[column].type))
    refused(with_table("assignments", table), f"assignments.parquet: column {column} has 1 nulls, none allowed")


def test_a_null_text_is_refused():
    table = arrow("units")
    table = replaced(table, "text", pa.array([None] * len(table), pa.string()))
    refused(with_table("units", table), "column text has 40 nulls")


def test_text_that_is_not_utf8_is_refused():
    table = arrow("units")
    offsets, bytes_ = pa.array(range(len(table) + 1), pa.int32()), pa.py_buffer(b"\xff" * len(table))
    broken = pa.StringArray.from_buffers(len(table), offsets.buffers()[1], bytes_)
    refused(with_table("units", replaced(table, "text", broken)), "units.parquet is damaged|units.parquet")


@pytest.mark.parametrize("kind", [pa.large_string(), pa.string_view(), pa.dictionary(pa.int32(), pa.string())])
def test_text_that_another_program_saved_again_is_read(kind: Any):
    table = arrow("units")
    text = table["text"].combine_chunks().cast(pa.string())
    text = text.dictionary_encode() if pa.types.is_dictionary(kind) else text.cast(kind)
    trace = load_trace(io.BytesIO(with_table("units", replaced(table, "text", text))))
    assert_traces_equal(trace, full_trace())


def test_a_table_in_several_row_groups_is_read():
    for name in ("units", "assignments"):
        data = with_table(name, arrow(name), row_group_size=7)
        assert_traces_equal(load_trace(io.BytesIO(data)), full_trace())


def test_a_broken_invariant_is_refused():
    table = arrow("assignments")
    table = replaced(table, "expert_id", pa.array(np.full(len(table), 99, np.int16)))
    refused(with_table("assignments", table), "RoutingTrace: assignments: expert_id must lie in 0..num_experts-1")


def test_broken_logits_are_refused():
    table = arrow("router_logits")
    names = {"site_ids": "0 1 2"}

    def with_logits(changed: Any, metadata: dict[str, str] = names) -> bytes:
        return with_table("router_logits", changed.replace_schema_metadata(metadata))

    assert_traces_equal(load_trace(io.BytesIO(with_logits(table))), full_trace())
    refused(with_logits(table, {}), "must name its site_ids and have one row per site and unit")
    for words in ("", "0 1", "0 1 2 3", "0 2 1", "0 0 1 2", "a b c", "0 1 -1"):
        refused(with_logits(table, {"site_ids": words}), "must name its site_ids")
    refused(with_logits(table.slice(1)), "must name its site_ids and have one row per site and unit")
    order = np.arange(len(table))
    order[[0, 1]] = [1, 0]
    refused(with_logits(table.take(order)), "must have num_experts logits per row, sorted by site_id, unit_id")
    swapped = replaced(table, "site_id", pa.array(np.sort(table["site_id"].to_numpy())[::-1].copy()))
    refused(with_logits(swapped), "must have num_experts logits per row")
    ragged = table["logits"].to_pylist()
    ragged[0], ragged[1] = ragged[0][:-1], [*ragged[1], 0.0]
    ragged = pa.array(ragged, table["logits"].type)
    refused(with_logits(replaced(table, "logits", ragged)), "must have num_experts logits per row")
    holes = table["logits"].to_pylist()
    holes[0][0] = None
    holes = pa.array(holes, pa.list_(pa.float32()))
    refused(with_logits(replaced(table, "logits", holes)), "router_logits")


def test_a_broken_reference_is_refused():
    table = arrow("reference")
    names = pa.array(["a", *["b"] * (len(table) - 1)])
    refused(with_table("reference", replaced(table, "dataset", names)), "dataset must be one name in every row")
    refused(with_table("reference", table.slice(0, 0)), "dataset must be one name in every row, not 0 names")


def test_a_reference_names_its_data_set_in_every_row():
    trace = make_trace("L0.mlp: 0>E1", num_experts=2, reference=make_reference({0: [3, 4]}, patches=9, dataset="wiki"))
    frame = pd.read_parquet(io.BytesIO(members(saved(trace))["reference.parquet"]))
    assert frame["dataset"].tolist() == ["wiki", "wiki"]


def test_a_path_that_holds_no_trace_is_named(tmp_path: Path):
    with pytest.raises(TraceFormatError, match=r"nowhere.zip does not exist"):
        load_trace(tmp_path / "nowhere.zip")
    with pytest.raises(TraceFormatError, match=r"no routing trace that can be read: run.parquet, .* missing"):
        load_trace(tmp_path)
    (tmp_path / "cat.jpg").write_bytes(b"")
    with pytest.raises(TraceFormatError, match=r"unknown or repeated file 'cat.jpg'"):
        load_trace(tmp_path)
    (tmp_path / "trace.zip").write_text("hello")
    with pytest.raises(TraceFormatError, match=r"^trace.zip is no routing trace that can be read: a trace is a zip"):
        load_trace(str(tmp_path / "trace.zip"))
    save_trace(full_trace(), tmp_path / "good")
    (tmp_path / "good" / ".DS_Store").write_bytes(b"mac")
    assert load_trace(tmp_path / "good").num_units == 40
    (tmp_path / "good" / "run.parquet").unlink()
    (tmp_path / "good" / "run.parquet").mkdir()
    with pytest.raises(TraceFormatError, match="good is no routing trace that can be read"):
        load_trace(tmp_path / "good")


def test_the_name_of_an_uploaded_file_is_told():
    upload = io.BytesIO(b"hello")
    upload.name = "holiday.zip"
    with pytest.raises(TraceFormatError, match=r"^holiday.zip is no routing trace that can be read: "):
        load_trace(upload)
