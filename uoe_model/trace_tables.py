"""The tables of a routing trace: read-only NumPy columns whose dtypes are checked when a table is made."""

from collections.abc import Iterable
from dataclasses import dataclass, fields
from functools import cache
from typing import Annotated, Any, Final, get_args, get_origin, get_type_hints

import numpy as np
from numpy.typing import NDArray

from uoe_model.errors import TraceError

KEPT: Final = 0
DROPPED: Final = 1
FILLER: Final = 2

BLOCKS: Final = ("attention", "mlp")
SELECTIONS: Final = ("data", "expert_choice", "expert")
ADMISSIONS: Final = ("score", "position")
GATES: Final = ("mean_one", "probability", "one")
SCORE_FUNCTIONS: Final = ("softmax",)
PHASES: Final = ("prefill", "decode")

Bool = Annotated[NDArray[np.bool_], np.dtype(np.bool_)]
UInt8 = Annotated[NDArray[np.uint8], np.dtype(np.uint8)]
Int8 = Annotated[NDArray[np.int8], np.dtype(np.int8)]
Int16 = Annotated[NDArray[np.int16], np.dtype(np.int16)]
Int32 = Annotated[NDArray[np.int32], np.dtype(np.int32)]
Int64 = Annotated[NDArray[np.int64], np.dtype(np.int64)]
Float32 = Annotated[NDArray[np.float32], np.dtype(np.float32)]
Float64 = Annotated[NDArray[np.float64], np.dtype(np.float64)]
Text = Annotated[NDArray[np.object_], np.dtype(np.object_)]
"""A column of `str`."""


def text_column(values: Iterable[str]) -> NDArray[np.object_]:
    """Make a column of strings (an object array; NumPy alone would make fixed-width text of it)."""
    items = list(values)
    column = np.empty(len(items), dtype=np.object_)
    column[:] = items
    return column


def is_text(value: object) -> bool:
    """Whether a value is a `str` (no subclass) that UTF-8 can write."""
    if type(value) is not str:
        return False
    return value.isascii() or not any("\ud800" <= character <= "\udfff" for character in value)


def read_only(array: NDArray[Any]) -> NDArray[Any]:
    """Return a contiguous array that nobody can write to.

    An array that owns its memory is frozen in place, without a copy: whoever hands it over gives it away. A view of
    memory that somebody can still write to is copied.
    """
    if array.base is None and array.flags.c_contiguous:
        array.flags.writeable = False
        return array
    link: Any = array
    while isinstance(link, np.ndarray) and not link.flags.writeable:
        link = link.base
    if isinstance(link, np.ndarray) or not array.flags.c_contiguous:
        array = array.copy(order="C")
        array.flags.writeable = False
    return array


def raise_together(where: str, problems: list[str]) -> None:
    """Raise one TraceError that lists every problem, if there is one."""
    if problems:
        raise TraceError(f"{where}: " + "; ".join(problems))


def column_types(table: type[Any]) -> dict[str, tuple[np.dtype[Any], bool]]:
    """Read a table's columns from its annotations.

    Returns:
        For every column, in order: its exact dtype (object for strings), and whether it may be None.
    """
    return _column_types(table)  # type: ignore[arg-type]  # mypy takes a class for one of its instances here


@cache
def _column_types(table: type[Any]) -> dict[str, tuple[np.dtype[Any], bool]]:
    hints = get_type_hints(table, include_extras=True)
    columns = {}
    for field in fields(table):
        hint = hints[field.name]
        choices = [hint] if get_origin(hint) is Annotated else list(get_args(hint))
        for choice in choices:
            if get_origin(choice) is Annotated:
                columns[field.name] = (choice.__metadata__[0], type(None) in choices)
    return columns


class Table:
    """Columns of equal length and exact dtype; nothing is coerced, a wrong column raises TraceError."""

    __slots__ = ()

    def __post_init__(self) -> None:
        problems = []
        for name, (dtype, optional) in column_types(type(self)).items():
            column = getattr(self, name)
            if column is None and optional:
                continue
            problem = _column_problem(column, dtype)
            if problem:
                problems.append(f"{name} {problem}")
            else:
                object.__setattr__(self, name, read_only(column))
        lengths = {name: len(column) for name, column in self.columns().items() if isinstance(column, np.ndarray)}
        if not problems and len(set(lengths.values())) > 1:
            problems.append(f"columns have different lengths: {lengths}")
        raise_together(type(self).__name__, problems)

    def columns(self) -> dict[str, NDArray[Any]]:
        """Return the columns by name, in order, without those that are None."""
        named = {name: getattr(self, name) for name in column_types(type(self))}
        return {name: column for name, column in named.items() if column is not None}

    def __len__(self) -> int:
        return len(getattr(self, next(iter(column_types(type(self))))))  # the first column is never None


def _column_problem(column: object, dtype: np.dtype[Any]) -> str | None:
    if type(column) is not np.ndarray:
        return f"is a {type(column).__name__}, must be a NumPy array of {dtype}"
    if column.ndim != 1:
        return f"has shape {column.shape}, must have one dimension"
    if column.dtype != dtype:
        return f"has dtype {column.dtype}, must be {dtype}"
    if dtype == np.object_:
        strays = set(map(type, column.tolist())) - {str}
        if strays:
            return f"holds {', '.join(sorted(kind.__name__ for kind in strays))}, must hold only str"
        try:
            "".join(column.tolist()).encode()
        except UnicodeEncodeError:
            return "holds a lone surrogate, must be text that UTF-8 can write"
    return None


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class SiteTable(Table):
    """One row per router, in site order (L0 attention, L0 mlp, L1 attention, ...)."""

    site_id: Int16  # = row number
    layer: Int16
    block: Text  # BLOCKS
    name: Text  # unique, for example "L0.attention"
    selection: Text  # SELECTIONS
    num_experts: Int16
    top_k: Int16  # 1..num_experts
    capacity_factor: Float64  # NaN = never full
    admission: Text  # ADMISSIONS
    gate: Text  # GATES
    gate_keys: Bool
    score_function: Text  # SCORE_FUNCTIONS
    patch_len: Int16  # units routed together; the same at every site of a trace
    num_shared_experts: Int16


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class UnitTable(Table):
    """One row per token or image cell, sorted by example and position; no padding."""

    unit_id: Int32  # = row number
    example_id: Int32  # 0, 1, ... without gaps
    patch_id: Int32  # 0, 1, ... without gaps over the whole trace; a patch never spans examples
    position: Int32  # within its example, ascending
    modality: Text  # "text", "image", ...
    token_id: Int32  # -1 none
    text: Text
    char_start: Int32  # -1 none
    char_end: Int32  # exclusive; -1 none
    grid_row: Int16  # -1 none
    grid_col: Int16  # -1 none
    box_x0: Float32  # original pixels; NaN none
    box_y0: Float32
    box_x1: Float32
    box_y1: Float32
    phase: Text  # PHASES
    is_special: Bool
    label: Text  # "" none
    output_token_id: Int32  # -1 none
    output_text: Text
    output_probability: Float32  # NaN none
    loss: Float32  # nats, of predicting the next unit, on the predicting row; NaN unknown

    def first_of_patch(self) -> NDArray[np.bool_]:
        """Mark the first unit of every patch: the row that counts, because a patch is counted once."""
        first = np.ones(len(self.patch_id), dtype=np.bool_)
        first[1:] = self.patch_id[1:] != self.patch_id[:-1]
        return first


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class CapacityTable(Table):
    """One row per site and example, sorted by both, none missing."""

    site_id: Int16
    example_id: Int32
    capacity: Int32  # patches per expert; -1 unlimited; with admission by position the value at the last patch


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class AssignmentTable(Table):
    """One row per site, unit and requested expert, sorted by (site_id, unit_id, rank).

    Expert choice has rows only for pairs that were picked, all kept. Units of one patch repeat its rows.
    """

    site_id: Int16
    unit_id: Int32
    rank: Int8  # 0 = preferred, without gaps; -1 filler
    expert_id: Int16
    score: Float32  # router probability, 0..1
    selection_score: Float32 | None  # what the choice was made by, after bias or groups
    gate: Float32  # weight applied; 0 exactly where dropped
    status: UInt8  # KEPT, DROPPED, FILLER
    inherited: Bool  # decided by the first unit of the patch, not by this one


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class ReferenceTable(Table):
    """The model's own load on its test set: one row per site and expert, sorted by both, idle experts included."""

    dataset: str
    site_id: Int16
    expert_id: Int16
    requested: Int64  # patches
    kept: Int64
    patches: Int64  # seen by the site; repeated per row
