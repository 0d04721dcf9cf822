import re
import string

import numpy as np
import pandas as pd
import pytest

from analysis.exports.latex import booktabs_table, escape_latex, figure_snippet
from uoe_model.errors import ConfigError


def body(table: str) -> list[str]:
    lines = [line.strip() for line in table.splitlines()]
    return lines[lines.index(r"\midrule") + 1 : lines.index(r"\bottomrule")]


def test_a_figure_is_included_at_its_width():
    assert figure_snippet("uoe-map.pdf", width_in=3.25, caption="50% of E_1", label="fig:uoe map") == (
        "\\begin{figure}[t]\n"
        "  \\centering\n"
        "  \\includegraphics[width=3.25in]{uoe-map.pdf}\n"
        "  \\caption{50\\% of E\\_1}\n"
        "  \\label{fig:uoe-map}\n"
        "\\end{figure}\n"
    )
    wide = figure_snippet("a.pdf", width_in=6.75, caption="", label="fig:a", spans_columns=True)
    assert wide.startswith("\\begin{figure*}[t]\n")
    assert wide.endswith("\\end{figure*}\n")


@pytest.mark.parametrize("name", ["", "a b.pdf", "../a.pdf", "a}.pdf", "a%.pdf", "/etc/x.pdf", "a\n.pdf", "-a.pdf"])
def test_a_file_name_that_latex_would_misread_is_refused(name):
    with pytest.raises(ConfigError, match="file name"):
        figure_snippet(name, width_in=3, caption="", label="x")


@pytest.mark.parametrize("width", [0, -1, np.nan, np.inf])
def test_a_width_that_is_no_length_is_refused(width):
    with pytest.raises(ConfigError, match="width_in"):
        figure_snippet("a.pdf", width_in=width, caption="", label="x")


@pytest.mark.parametrize(
    ("text", "escaped"),
    [
        ("\\input{/etc/passwd}", r"\textbackslash{}input\{/etc/passwd\}"),
        ("$ & # % _ ~ ^", r"\$ \& \# \% \_ \textasciitilde{} \textasciicircum{}"),
        ("a<b>c|d", r"a\textless{}b\textgreater{}c\textbar{}d"),
        ('don\'t `x` "y"', r"don\textquotesingle{}t \textasciigrave{}x\textasciigrave{} \symbol{34}y\symbol{34}"),
        ("[1]*", "{[}1]*"),
        ("*x", "{*}x"),
        ("a---b,,c top-1", "a-{}-{}-b,{},c top-1"),
        (" cat ", r"\textvisiblespace{}cat\textvisiblespace{}"),
        ("  ", r"\textvisiblespace{}\textvisiblespace{}"),
        ("a   b", r"a\ \ \ b"),
        (
            "a\nb\tc\r\x00\x7f\x85\u2028\ud800",
            "a"
            + "".join(
                rf"\textbackslash{{}}{name}{after}"
                for name, after in [
                    ("n", "b"),
                    ("t", "c"),
                    ("r", ""),
                    ("x00", ""),
                    ("x7f", ""),
                    ("x85", ""),
                    ("u2028", ""),
                    ("ud800", ""),
                ]
            ),
        ),
        ("", ""),
        ("日本 é 🙂", "日本 é 🙂"),
    ],
)
def test_text_is_printed_letter_by_letter(text, escaped):
    assert escape_latex(text) == escaped


def test_no_special_letter_is_left_bare():
    for first in string.printable:
        for second in string.printable:
            escaped = escape_latex(first + second)
            bare = re.sub(r"\\(text[a-z]+\{\}|symbol\{34\}|[{}$&#%_ ])", "", escaped)
            bare = re.sub(r"\{[\[*]\}|(?<=[-,])\{\}", "", bare)
            assert not set(bare) & set("\\{}$&#%_~^<>|\"'`\n\r\t\x0b\x0c"), escaped


def test_a_table_has_rules_and_aligned_columns():
    table = pd.DataFrame(
        {
            "text": [" cat", None, "a & b"],
            "load_share": [0.123456, np.nan, -1.5e-7],
            "load": [1, -2, 3],
            "is_idle": [True, False, True],
        }
    )
    found = booktabs_table(table, caption="Load & share", label="tab:load", max_rows=10)
    assert r"\begin{tabular}{lrrl}" in found
    assert r"text & load\_share & load & is\_idle \\" in found
    assert body(found) == [
        r"\textvisiblespace{}cat & 0.1235 & 1 & yes \\",
        r"-- & -- & $-$2 & no \\",
        r"a \& b & $-$1.5\,$\times 10^{-7}$ & 3 & yes \\",
    ]
    assert r"\caption{Load \& share}" in found
    assert r"\label{tab:load}" in found
    for rule in ("toprule", "midrule", "bottomrule"):
        assert found.count("\\" + rule) == 1
    assert "left out" not in found


def test_rows_left_out_are_counted_in_a_comment():
    found = booktabs_table(pd.DataFrame({"n": range(50)}), caption="c", label="t", max_rows=40)
    assert found.startswith("% 10 of 50 rows are left out.\n")
    assert len(body(found)) == 40


def test_cells_cannot_end_their_row():
    hostile = ["\\\\ \\end{tabular}", "a\nb & c", "%comment"]
    rows = body(booktabs_table(pd.DataFrame({"text": hostile, "n": 1}), caption="c", label="t"))
    assert len(rows) == 3
    assert all(len(re.findall(r"(?<!\\)&", row)) == 1 and row.endswith(r"\\") for row in rows)


def test_a_table_that_cannot_be_made_is_refused():
    with pytest.raises(ConfigError, match="max_rows=0"):
        booktabs_table(pd.DataFrame({"n": [1]}), caption="", label="", max_rows=0)
    with pytest.raises(ConfigError, match="no columns"):
        booktabs_table(pd.DataFrame(), caption="", label="")
    assert body(booktabs_table(pd.DataFrame({"n": []}), caption="", label="")) == []
