"""The run bundle: one zip with a run's trace, input, answer, figures, tables, and a YAML record to repeat it from."""

import dataclasses
import io
import json
import lzma
import struct
import zipfile
import zlib
from collections.abc import Mapping
from typing import Any, BinaryIO, Final

import numpy as np
import pandas as pd
import yaml
from numpy.typing import NDArray
from PIL import Image

from analysis.exhibit import Exhibit, ViewOptions
from analysis.pool import pool_traces
from analysis.recorded_run import RecordedRun, TraceTables
from analysis.routing_value import input_routing_value_table
from analysis.selection import selection_from_params
from uoe_model.errors import InputError, TraceError, TraceFormatError, UoEError
from uoe_model.processors.text_input import check_text
from uoe_model.result import (
    Candidate,
    ClassPrediction,
    EmbeddingPrediction,
    ImageInput,
    Prediction,
    TextInput,
    TextPrediction,
)
from uoe_model.trace_io import load_trace, save_trace

FORMAT: Final = "uoe-run-bundle"
VERSION: Final = 1
RECORD: Final = "run.yaml"
MAX_BUNDLE_BYTES: Final = 256 * 1024**2  # of all members together, unpacked
MAX_RECORD_BYTES: Final = 256 * 1024  # YAML is read slowly; 65 runs need half of it
MAX_JSON_BYTES: Final = 16 * 1024**2
MAX_MEMBERS: Final = 2000
MAX_RUNS: Final = 65
MAX_ROWS: Final = 1000  # of the table of what routing buys
EPOCH: Final = (1980, 1, 1, 0, 0, 0)  # no dates: the same run gives the same file

_BROKEN: Final = (
    *(zipfile.BadZipFile, zlib.error, lzma.LZMAError, struct.error, EOFError, OSError),
    *(ArithmeticError, AttributeError, LookupError, RuntimeError, SyntaxError, TypeError, ValueError, yaml.YAMLError),
    *(Image.DecompressionBombError, Image.DecompressionBombWarning),
)
"""What readers of zip, YAML, JSON and PNG are known to raise on damaged or hostile files."""


class _Record(yaml.SafeLoader):
    """Plain values only, and no merge keys, which repeat what they name: a few lines would fill the memory."""

    def flatten_mapping(self, node: yaml.MappingNode) -> None:
        """Refuse `<<`."""
        if any(key.tag == "tag:yaml.org,2002:merge" for key, _ in node.value):
            raise yaml.YAMLError("merge keys are not read")


def save_bundle(exhibit: Exhibit, target: BinaryIO, files: Mapping[str, bytes] | None = None) -> None:
    """Write what is on show as a bundle.

    Args:
        files: figures and tables to put beside the run, by their path inside the zip.
    """
    folders = [f"runs/{number}" for number in range(len(exhibit.runs))]
    record: dict[str, Any] = {
        "format": FORMAT,
        "version": VERSION,
        **exhibit.record(),
        "runs": [_run_record(run) for run in exhibit.runs],
        "compared_with": None if exhibit.pinned is None else _run_record(exhibit.pinned),
        "routing_value": None if exhibit.routing_value is None else _plain_records(exhibit.routing_value),
        "repeat": "python -m analysis.exports THIS_FILE --view NAME --preset icml",
    }
    members = {RECORD: yaml.safe_dump(record, sort_keys=False, allow_unicode=True).encode()}
    for folder, run in zip(folders, exhibit.runs, strict=True):
        members |= _run_files(folder, run)
    if exhibit.pinned is not None:
        members |= _run_files("compared_with", exhibit.pinned)
    members |= files or {}
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in members.items():
            is_packed = name.endswith((".zip", ".png"))
            info = zipfile.ZipInfo(name, EPOCH)
            archive.writestr(info, data, zipfile.ZIP_STORED if is_packed else zipfile.ZIP_DEFLATED)


def load_bundle(source: BinaryIO) -> Exhibit:
    """Read a bundle as it was when it was saved; nothing in it is executed or written to disk.

    Raises:
        TraceFormatError: the file is no bundle, is damaged, or is larger than allowed.
        TraceError: a trace inside contradicts itself.
    """
    try:
        with zipfile.ZipFile(source) as archive:
            return _read(archive)
    except TraceError:
        raise
    except UoEError as error:
        raise TraceFormatError(f"This bundle cannot be opened: {str(error)[:300]}") from error
    except _BROKEN as error:
        raise TraceFormatError(
            f"This file is damaged or no run bundle ({_reason(error)}): save the bundle again from the page."
        ) from error


def is_bundle(source: BinaryIO) -> bool:
    """Whether a file says that it is a run bundle; the file is rewound."""
    try:
        with zipfile.ZipFile(source) as archive:
            return RECORD in archive.namelist()[:MAX_MEMBERS]
    except _BROKEN:
        return False
    finally:
        source.seek(0)


def _read(archive: zipfile.ZipFile) -> Exhibit:
    infos = archive.infolist()
    total = sum(info.file_size for info in infos)
    if len(infos) > MAX_MEMBERS or total > MAX_BUNDLE_BYTES:
        raise TraceFormatError(
            f"This bundle unpacks to {total:,} bytes in {len(infos):,} files: at most {MAX_BUNDLE_BYTES:,} bytes in "
            f"{MAX_MEMBERS:,} files can be opened. Save it with fewer inputs."
        )
    if RECORD not in archive.namelist():
        raise TraceFormatError(f"This zip has no {RECORD}, so it is no run bundle: choose one that the page saved.")
    record = _Record(_member(archive, RECORD, MAX_RECORD_BYTES)).get_single_data()
    if not isinstance(record, dict) or record.get("format") != FORMAT:
        raise TraceFormatError(f"{RECORD} does not describe a run bundle: choose a file that the page saved.")
    version = record.get("version")
    if version != VERSION:
        found = f"version {version}" if isinstance(version, int) and abs(version) < 10**9 else "an unknown version"
        raise TraceFormatError(f"This bundle has {found}; this program reads version {VERSION}.")
    records = record["runs"]
    if not isinstance(records, list) or not 1 <= len(records) <= MAX_RUNS:
        raise TraceFormatError(f"{RECORD} lists no runs, or more than {MAX_RUNS}: save the bundle again from the page.")
    runs = tuple(_read_run(archive, f"runs/{number}", one) for number, one in enumerate(records))
    index = record.get("input", 0)
    index = index if isinstance(index, int) and 0 <= index < len(runs) else 0
    compared = record.get("compared_with")
    values = _plain_rows(record.get("routing_value"))
    return Exhibit(
        runs=runs,
        index=index,
        selection=selection_from_params(_texts(record.get("selection"))).fitted(runs[index].trace),
        options=ViewOptions.from_params(_texts(record.get("options"))),
        pool=TraceTables(pool_traces([run.trace for run in runs])) if len(runs) > 1 else None,
        pinned=None if compared is None else _read_run(archive, "compared_with", compared),
        routing_value=None if values is None else input_routing_value_table(values),
    )


def _run_record(run: RecordedRun) -> dict[str, Any]:
    """What is needed to repeat a run."""
    record = run.trace.run
    kind = "text" if isinstance(run.input, TextInput) else "image" if isinstance(run.input, ImageInput) else "unknown"
    return {
        "name": run.name,
        "input_kind": kind,
        "input_sha256": record.input_digest,
        "settings": dict(run.settings),
        "changes": run.changes,
        "notes": list(run.notes),
        "model": record.model,
        "weights_sha256": record.weights_digest,
        "source": record.source,
        "adapter": record.adapter,
        "backend": record.backend,
        "device": record.device,
        "dtype": record.dtype,
        "seed": record.seed,
        "library_versions": dict(record.library_versions),
        "self_check": {check.name: check.passed for check in record.self_check},
    }


def _plain_records(table: pd.DataFrame) -> list[dict[str, Any]]:
    """The rows of a table as plain values; None for what is unknown."""
    rows = table.astype("object").where(table.notna(), None).to_dict("records")
    return [
        {str(name): value.item() if isinstance(value, np.generic) else value for name, value in row.items()}
        for row in rows
    ]


def _run_files(folder: str, run: RecordedRun) -> dict[str, bytes]:
    stream = io.BytesIO()
    save_trace(run.trace, stream)
    files = {f"{folder}/trace.zip": stream.getvalue()}
    if isinstance(run.input, TextInput):
        files[f"{folder}/input.txt"] = run.input.text.encode("utf-8")
    elif isinstance(run.input, ImageInput):
        files[f"{folder}/picture.png"] = _png(run.input.pixels)
        files[f"{folder}/model_picture.png"] = _png(run.input.model_pixels)
        size = {"fit": run.input.fit, "width": run.input.original_width, "height": run.input.original_height}
        files[f"{folder}/picture.json"] = json.dumps(size).encode()
    if run.prediction is not None:
        answer = dataclasses.asdict(run.prediction)
        if isinstance(run.prediction, ClassPrediction):
            answer["probabilities"] = run.prediction.probabilities.tolist()
        elif isinstance(run.prediction, EmbeddingPrediction):
            answer["vector"] = run.prediction.vector.tolist()
        files[f"{folder}/prediction.json"] = json.dumps(answer, ensure_ascii=False, indent=1).encode()
    return files


def _read_run(archive: zipfile.ZipFile, folder: str, record: object) -> RecordedRun:
    fields: Mapping[str, Any] = record if isinstance(record, dict) else {}
    settings = fields.get("settings")
    notes = fields.get("notes")
    name = _line(fields.get("name")) or "run"
    names = set(archive.namelist())
    trace = load_trace(io.BytesIO(_member(archive, f"{folder}/trace.zip")), max_bytes=MAX_BUNDLE_BYTES)
    source: TextInput | ImageInput | None = None
    if f"{folder}/input.txt" in names:
        source = TextInput(text=check_text(_member(archive, f"{folder}/input.txt").decode("utf-8")), name=name)
    elif f"{folder}/picture.png" in names:
        size = json.loads(_member(archive, f"{folder}/picture.json", MAX_JSON_BYTES))
        source = ImageInput(
            pixels=_pixels(_member(archive, f"{folder}/picture.png")),
            model_pixels=_pixels(_member(archive, f"{folder}/model_picture.png")),
            name=name,
            fit=size["fit"],
            original_width=int(size["width"]),
            original_height=int(size["height"]),
        )
    return RecordedRun(
        name=name,
        trace=trace,
        prediction=_read_prediction(archive, folder) if f"{folder}/prediction.json" in names else None,
        input=source,
        settings=settings if isinstance(settings, dict) else {},
        changes=_line(fields.get("changes")),
        notes=tuple(_line(note) for note in notes[:20]) if isinstance(notes, list) else (),
    )


def _read_prediction(archive: zipfile.ZipFile, folder: str) -> Prediction:
    answer = json.loads(_member(archive, f"{folder}/prediction.json", MAX_JSON_BYTES))
    if "labels" in answer:
        return ClassPrediction(
            labels=tuple(_sound(label) for label in answer["labels"]),
            probabilities=np.asarray(answer["probabilities"], dtype=np.float64),
        )
    if "vector" in answer:
        return EmbeddingPrediction(vector=np.asarray(answer["vector"], dtype=np.float32))
    return TextPrediction(
        next_candidates=tuple(
            Candidate(token_id=int(one["token_id"]), text=_sound(one["text"]), probability=float(one["probability"]))
            for one in answer["next_candidates"][:100]
        ),
        continuation=_sound(answer["continuation"]),
        mean_loss=float(answer["mean_loss"]),
        bits_per_byte=float(answer["bits_per_byte"]),
    )


def _member(archive: zipfile.ZipFile, name: str, max_bytes: int = MAX_BUNDLE_BYTES) -> bytes:
    with archive.open(name) as file:
        data = file.read(max_bytes + 1)
    if len(data) > max_bytes:
        raise TraceFormatError(f"{name} in this bundle is larger than {max_bytes:,} bytes: it is not opened.")
    return data


def _png(pixels: NDArray[np.uint8]) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "PNG")
    return stream.getvalue()


def _pixels(data: bytes) -> NDArray[np.uint8]:
    with Image.open(io.BytesIO(data), formats=("PNG",)) as picture:
        if picture.width * picture.height > MAX_PICTURE_PIXELS:
            raise InputError(f"The picture in this bundle has {picture.width} x {picture.height} pixels: too many.")
        return np.asarray(picture.convert("RGB"), dtype=np.uint8)


MAX_PICTURE_PIXELS: Final = 2048 * 2048
"""Pictures are stored as they are displayed: at most 2048 pixels a side."""


def _texts(value: object) -> dict[str, str]:
    """The texts of a mapping; nothing else in it is looked at, because YAML can make it endless."""
    found = value.items() if isinstance(value, dict) else ()
    return {key: one for key, one in found if isinstance(key, str) and isinstance(one, str)}


def _plain_rows(value: object) -> list[dict[str, Any]] | None:
    """The rows of a table that are mappings, with their plain values only."""
    if not isinstance(value, list):
        return None
    return [
        {key: one for key, one in row.items() if one is None or isinstance(one, str | int | float)}
        if isinstance(row, dict)
        else {}
        for row in value[:MAX_ROWS]
    ]


def _line(value: object) -> str:
    return " ".join(_sound(value).split())[:500] if isinstance(value, str) else ""


def _sound(value: object) -> str:
    """A text that can be written as UTF-8.

    Raises:
        UnicodeEncodeError: it holds half of a surrogate pair.
    """
    text = str(value)
    text.encode("utf-8")
    return text


def _reason(error: BaseException) -> str:
    """What went wrong, in words that mean something to somebody who has no program to mend."""
    if isinstance(error, RuntimeError) and "encrypted" in str(error):
        return "it is encrypted"
    if isinstance(error, KeyError) and "archive" not in str(error):
        return f"{str(error)[:80]} is missing"
    if isinstance(error, zipfile.BadZipFile | KeyError | json.JSONDecodeError):
        return " ".join(str(error).strip("\"'").split())[:120]
    if isinstance(error, UnicodeError):
        return "a text in it is not UTF-8"
    return "it holds something that cannot be read"
