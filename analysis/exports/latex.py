r"""LaTeX for a paper: a `figure` that includes a file at its physical size, and a booktabs table.

Text of the input is escaped so that it cannot do anything but be printed; letters beyond ASCII stay as they are, which
pdfLaTeX prints as far as its fonts go and LuaLaTeX and XeLaTeX print in full.
"""

import math
import re
from typing import Any, Final

import pandas as pd

from uoe_model.errors import ConfigError

MAX_ROWS: Final = 40

_FILE_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._/-]*")
_COMMANDS: Final = {
    "\\": "backslash",
    "~": "asciitilde",
    "^": "asciicircum",
    "<": "less",
    ">": "greater",
    "|": "bar",
    "'": "quotesingle",
    "`": "asciigrave",
}
_ESCAPES: Final[dict[str, str]] = {
    **{letter: rf"\text{name}{{}}" for letter, name in _COMMANDS.items()},
    **{letter: "\\" + letter for letter in "{}$&#%_"},
    '"': r"\symbol{34}",  # the letter itself is a command of some languages
}
_LETTERS: Final = {"\n": "n", "\r": "r", "\t": "t"}
_SPACE: Final = r"\textvisiblespace{}"


def figure_snippet(file_name: str, *, width_in: float, caption: str, label: str, spans_columns: bool = False) -> str:
    r"""A figure environment; `\usepackage{graphicx}` is all that it needs.

    Args:
        file_name: of the figure, letters, digits, `.`, `_`, `-` and `/` only.
        width_in: the width that the file was made for, in inches; included at that width, its type keeps its size.
        caption: plain text, a beginning for the author. label: what `\ref` will call, such as `fig:map`.
        spans_columns: over both columns of a two-column page (`figure*`).

    Raises:
        ConfigError: a file name that LaTeX would not read as one, or a width that is no length.
    """
    if not _FILE_NAME.fullmatch(file_name) or ".." in file_name:
        raise ConfigError(f"file name {file_name!r} must be of letters, digits, '.', '_', '-' and '/' only: rename it")
    if not (math.isfinite(width_in) and width_in > 0):
        raise ConfigError(f"width_in={width_in} must be a positive number of inches")
    environment = "figure*" if spans_columns else "figure"
    return "\n".join(
        [
            rf"\begin{{{environment}}}[t]",
            r"  \centering",
            rf"  \includegraphics[width={width_in:.4g}in]{{{file_name}}}",
            rf"  \caption{{{escape_latex(caption)}}}",
            rf"  \label{{{_key(label)}}}",
            rf"\end{{{environment}}}",
            "",
        ]
    )


def booktabs_table(table: pd.DataFrame, *, caption: str, label: str, max_rows: int = MAX_ROWS) -> str:
    r"""A table environment; `\usepackage{booktabs}` is all that it needs.

    Columns of numbers are right-aligned, fractions have four significant digits, missing values are a dash.

    Args:
        table: its index is left out.
        max_rows: rows beyond are left out, and a comment says how many.

    Raises:
        ConfigError: `max_rows` below 1, or a table without columns.
    """
    if max_rows < 1:
        raise ConfigError(f"max_rows={max_rows} must be at least 1")
    if not len(table.columns):
        raise ConfigError("the table has no columns: choose a view that has data")
    kinds = [_is_number(table[name]) for name in table.columns]
    rows = table.head(max_rows)
    lines = [
        *([f"% {len(table) - max_rows} of {len(table)} rows are left out."] if len(table) > max_rows else []),
        r"\begin{table}[t]",
        r"  \centering",
        rf"  \caption{{{escape_latex(caption)}}}",
        rf"  \label{{{_key(label)}}}",
        rf"  \begin{{tabular}}{{{''.join('r' if is_number else 'l' for is_number in kinds)}}}",
        r"    \toprule",
        "    " + " & ".join(escape_latex(str(name)) for name in table.columns) + r" \\",
        r"    \midrule",
        *(
            "    " + " & ".join(_cell(value) for value in row) + r" \\"
            for row in rows.itertuples(index=False, name=None)
        ),
        r"    \bottomrule",
        r"  \end{tabular}",
        r"\end{table}",
        "",
    ]
    return "\n".join(lines)


def escape_latex(text: str) -> str:
    r"""Text that LaTeX prints letter by letter: control characters as `\x00`, spaces at the ends as visible ones."""
    core = text.strip(" ")
    before = len(text) - len(text.lstrip(" "))
    after = len(text) - before - len(core)
    escaped = "".join(_escaped(letter) for letter in core)
    escaped = re.sub(r"^[\[*]", r"{\g<0>}", escaped)  # after a line break these would be its arguments
    escaped = re.sub(r"([-,])(?=\1)", r"\1{}", escaped)  # no dashes and quotes out of two letters
    escaped = re.sub(" {2,}", lambda found: r"\ " * len(found[0]), escaped)
    return _SPACE * before + escaped + _SPACE * after


def _escaped(letter: str) -> str:
    code = ord(letter)
    if code < 0x20 or 0x7F <= code < 0xA0 or 0xD800 <= code < 0xE000 or code in (0x2028, 0x2029):
        name = _LETTERS.get(letter) or (f"x{code:02x}" if code < 0x100 else f"u{code:04x}")
        return rf"\textbackslash{{}}{name}"
    return _ESCAPES.get(letter, letter)


def _cell(value: object) -> str:
    if value is None or value is pd.NA or (isinstance(value, float) and math.isnan(value)):
        return "--"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return _fraction(value)
    return str(value).replace("-", "$-$") if isinstance(value, int) else escape_latex(str(value))


def _fraction(value: float) -> str:
    if math.isinf(value):
        return r"$\infty$" if value > 0 else r"$-\infty$"
    text = f"{value:.4g}"
    mantissa, is_power, power = text.partition("e")
    text = mantissa.replace("-", "$-$")
    return rf"{text}\,$\times 10^{{{int(power)}}}$" if is_power else text


def _is_number(column: "pd.Series[Any]") -> bool:
    return pd.api.types.is_numeric_dtype(column) and not pd.api.types.is_bool_dtype(column)


def _key(label: str) -> str:
    r"""A label that `\ref` can call: other characters become dashes."""
    return re.sub(r"[^A-Za-z0-9:.]+", "-", label).strip("-")
