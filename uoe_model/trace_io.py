"""Traces on disk: a zip or a folder of Parquet files. Saving is all or nothing; loading believes nothing."""

import io
import os
import shutil
import struct
import uuid
import zipfile
import zlib
from pathlib import Path
from typing import BinaryIO, Final

from uoe_model.errors import TraceError, TraceFormatError
from uoe_model.trace import (
    AssignmentTable,
    CapacityTable,
    ReferenceTable,
    RoutingTrace,
    SiteTable,
    UnitTable,
)
from uoe_model.trace_parquet import read_logits, read_run, read_table, write_logits, write_run, write_table

REQUIRED_TABLES: Final = ("run", "sites", "units", "capacities", "assignments")
OPTIONAL_TABLES: Final = ("router_logits", "reference")
MAX_BYTES: Final = 2 * 1024**3
"""Default limit of a file, of all its members together, and of each table unpacked."""

_MEMBERS: Final = {f"{name}.parquet": name for name in (*REQUIRED_TABLES, *OPTIONAL_TABLES)}
_MAX_DIRECTORY_BYTES: Final = 4096  # of a zip's table of contents; seven members need a tenth of it
_ZIP_ERRORS: Final = (
    zipfile.BadZipFile,
    zlib.error,
    struct.error,
    EOFError,
    OSError,
    ValueError,
    RuntimeError,  # zipfile raises it for encrypted members, and its subclass for unknown compression
)


def save_trace(trace: RoutingTrace, target: Path | str | BinaryIO) -> None:
    """Write a trace as Parquet: a zip for a stream or a path that ends in .zip, a folder for any other path.

    A path holds either the whole trace or what it held before: files are written beside it and renamed.

    Raises:
        TraceFormatError: the path is a folder that holds something other than a trace.
        OSError: the disk refused.
    """
    files = {"run.parquet": write_run(trace.run)}
    for name in ("sites", "units", "capacities", "assignments"):
        files[f"{name}.parquet"] = write_table(getattr(trace, name))
    if trace.router_logits:
        files["router_logits.parquet"] = write_logits(trace.router_logits, trace.units)
    if trace.reference is not None:
        files["reference.parquet"] = write_table(trace.reference)
    if not isinstance(target, Path | str):
        target.write(_zip(files))
        return
    path = Path(target)
    beside = path.with_name(f".{path.name}.{uuid.uuid4().hex}.part")
    try:
        if path.suffix.lower() == ".zip":
            _write_file(beside, _zip(files))
            beside.replace(path)
        else:
            beside.mkdir()
            for name, data in files.items():
                _write_file(beside / name, data)
            _replace_folder(path, beside)
    finally:
        if beside.is_dir():
            shutil.rmtree(beside)
        else:
            beside.unlink(missing_ok=True)


def load_trace(source: Path | str | BinaryIO, *, max_bytes: int = MAX_BYTES) -> RoutingTrace:
    """Read what `save_trace` wrote, exactly.

    Args:
        source: a zip, or a folder of the same files.
        max_bytes: limit of the file, of its members together, and of each table unpacked, checked beforehand.

    Raises:
        TraceFormatError: the source is no trace, is damaged or too large, or comes from a newer program.
    """
    name = Path(source).name if isinstance(source, Path | str) else getattr(source, "name", None) or "the file"
    try:
        if not isinstance(source, Path | str):
            files = _unzip(source, max_bytes)
        elif Path(source).is_dir():
            files = _read_folder(Path(source), max_bytes)
        else:
            with Path(source).open("rb") as stream:
                files = _unzip(stream, max_bytes)
        return _assemble(files, max_bytes)
    except FileNotFoundError as error:
        raise TraceFormatError(f"{name} does not exist") from error
    except (TraceError, OSError) as error:
        raise TraceFormatError(f"{name} is no routing trace that can be read: {error}") from error


def _assemble(files: dict[str, bytes], max_bytes: int) -> RoutingTrace:
    missing = [name for name in REQUIRED_TABLES if f"{name}.parquet" not in files]
    if missing:
        raise TraceFormatError(f"{', '.join(f'{name}.parquet' for name in missing)} missing")
    run = read_run(files["run.parquet"], max_bytes)
    sites = read_table(SiteTable, "sites", files["sites.parquet"], max_bytes)
    units = read_table(UnitTable, "units", files["units.parquet"], max_bytes)
    logits, reference = files.get("router_logits.parquet"), files.get("reference.parquet")
    return RoutingTrace(
        run=run,
        sites=sites,
        units=units,
        capacities=read_table(CapacityTable, "capacities", files["capacities.parquet"], max_bytes),
        assignments=read_table(AssignmentTable, "assignments", files["assignments.parquet"], max_bytes),
        router_logits={} if logits is None else read_logits(logits, sites, units, max_bytes),
        reference=None if reference is None else read_table(ReferenceTable, "reference", reference, max_bytes),
    )


def _zip(files: dict[str, bytes]) -> bytes:
    """Pack files without compressing them again; the same files give the same bytes."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_STORED) as archive:
        for name, data in files.items():
            archive.writestr(zipfile.ZipInfo(name), data)
    return stream.getvalue()


def _unzip(stream: BinaryIO, max_bytes: int) -> dict[str, bytes]:
    """Read the members of a zip, believing neither its names nor its sizes."""
    data = stream.read(max_bytes + 1)
    if len(data) > max_bytes:
        raise TraceFormatError(f"larger than {max_bytes:,} bytes")
    if not data:
        raise TraceFormatError("it is empty")
    if not data.startswith((b"PK\x03\x04", b"PK\x05\x06")):
        raise TraceFormatError("a trace is a zip of Parquet files, this is something else")
    # zipfile reads the whole table of contents at once, so its size is looked at first, in the last 22 bytes.
    if data[-22:-18] != b"PK\x05\x06" or data[-42:-38] == b"PK\x06\x07":
        raise TraceFormatError("the zip is cut off, or has a comment or 64-bit sizes, which no trace has")
    if struct.unpack("<L", data[-10:-6])[0] > _MAX_DIRECTORY_BYTES:
        raise TraceFormatError(f"the zip has other members than {', '.join(_MEMBERS)}")
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            members = archive.infolist()
            _check_names([member.filename for member in members])
            if any(member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED) for member in members):
                raise TraceFormatError("the zip is compressed in a way no trace is: only stored or deflated is read")
            size = sum(member.file_size for member in members)
            if size > max_bytes:
                raise TraceFormatError(f"the zip would unpack to {size:,} bytes, at most {max_bytes:,} are allowed")
            return {member.filename: _unzip_member(archive, member) for member in members}
    except _ZIP_ERRORS as error:
        raise TraceFormatError(f"the zip is damaged ({error})") from error


def _unzip_member(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> bytes:
    """Read one member; asking for a number of bytes keeps zipfile from unpacking more than was declared."""
    with archive.open(member) as stream:
        data = stream.read(member.file_size + 1)
    if len(data) != member.file_size:
        raise TraceFormatError(f"{member.filename} has {len(data)} bytes, the zip declares {member.file_size}")
    return data


def _read_folder(folder: Path, max_bytes: int) -> dict[str, bytes]:
    paths = sorted(path for path in folder.iterdir() if not path.name.startswith("."))
    _check_names([path.name for path in paths])
    size = sum(path.stat().st_size for path in paths)
    if size > max_bytes:
        raise TraceFormatError(f"the folder holds {size:,} bytes, at most {max_bytes:,} are allowed")
    return {path.name: path.read_bytes() for path in paths}


def _check_names(names: list[str]) -> None:
    strays = sorted(name for name in set(names) if name not in _MEMBERS or names.count(name) > 1)
    if strays:
        raise TraceFormatError(f"unknown or repeated file {strays[0]!r}, a trace holds only {', '.join(_MEMBERS)}")


def _write_file(path: Path, data: bytes) -> None:
    with path.open("xb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def _replace_folder(path: Path, new: Path) -> None:
    """Put a finished folder in the place of an older trace, which is deleted only after the new one stands."""
    if not path.exists():
        new.rename(path)
        return
    strays = [child.name for child in path.iterdir() if child.name not in _MEMBERS] if path.is_dir() else [path.name]
    if strays:
        raise TraceFormatError(f"{path.name} is not a trace, it holds {strays[0]!r}: choose a new name")
    old = new.with_suffix(".old")
    path.rename(old)
    new.rename(path)
    shutil.rmtree(old)
