"""Break every statistic on purpose, in a copy of the project, and report whether its tests notice.

    python -m tests.mutation_check [statistic ...]

Takes a few minutes; needs fork, so no Windows. Ends with status 1 if a mutation survives, no longer finds the text that
it replaces, or crashes the statistic instead of making it wrong.
"""

import argparse
import collections
import dataclasses
import importlib
import os
import shutil
import sys
import tempfile
import traceback
from pathlib import Path
from typing import Final

import pytest

ROOT = Path(__file__).resolve().parents[2]
COPIED = ("analysis", "uoe_model", "tests", "pyproject.toml")
PASSED, FAILED, NO_VERDICT = 0, 1, 99  # pytest's own exit statuses, and one that it does not use
SIGNS_OF_A_WRONG_RESULT = ("AssertionError", "DID NOT RAISE")
REPORT = "report.txt"
VERDICTS = ("killed", "survived", "broken")
PRELOADED = ("scipy.special", "pandas", "pyarrow.compute", "uoe_model.trace", "tests.traces")
"""What every run of the tests needs and no mutation touches: imported once, before the first fork."""

TESTS: Final[dict[str, tuple[str, ...]]] = {
    "load": ("tests/analysis/test_utilisation.py", "-k", "load_equals_the_oracle"),
    "load band": ("tests/analysis/test_utilisation.py", "-k", "load_equals_the_oracle"),
    "load against reference": ("tests/analysis/test_utilisation.py", "-k", "every_measure"),
    "dropped assignments": ("tests/analysis/test_drops.py", "-k", "dropped_assignments_equal_the_oracle"),
    "dropped units": ("tests/analysis/test_drops.py", "-k", "dropped_units_equal_the_oracle"),
    "drops by position": ("tests/analysis/test_drops.py", "-k", "drops_by_position_equal_the_oracle"),
    "drop events": ("tests/analysis/test_drops.py", "-k", "drop_events_equal_the_oracle"),
    "entropy and margin": ("tests/analysis/test_confidence.py", "-k", "oracle"),
    "balance": ("tests/analysis/test_balance.py", "-k", "oracle"),
    "chance draws": ("tests/analysis/test_reference.py",),
    "routes": ("tests/analysis/test_routes.py", "-k", "oracle"),
    "summary": ("tests/analysis/test_summary.py", "-k", "oracle"),
    "summary bands": ("tests/analysis/test_summary.py", "-k", "bands_of_balance or varies_less"),
    "tables": ("tests/analysis/test_tables.py",),
    "reasons": (
        *("tests/analysis/test_utilisation.py", "tests/analysis/test_drops.py", "tests/analysis/test_confidence.py"),
        *("tests/analysis/test_balance.py", "tests/analysis/test_routes.py", "tests/analysis/test_columns.py"),
        *("-k", "explained"),
    ),
    "routing value": ("tests/analysis/test_routing_value.py",),
    "transitions": ("tests/analysis/test_transitions.py",),
    "comparison": ("tests/analysis/test_compare.py",),
    "full experts": ("tests/analysis/test_full_experts.py",),
    "selection": ("tests/analysis/test_selection.py", "-k", "slow_loop"),
    "one unit": ("tests/analysis/test_unit_experts.py", "tests/analysis/test_unit_drops.py"),
}
"""What must notice that a statistic is wrong, as arguments of pytest."""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Mutation:
    """One wrong version of a statistic: `old` stands exactly once in `file` and becomes `new`."""

    statistic: str
    file: str
    what: str
    old: str
    new: str


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.mutation_check", description=__doc__)
    parser.add_argument("statistics", nargs="*", help=f"any of {', '.join(TESTS)}; default: all")
    wanted = parser.parse_args().statistics or list(TESTS)
    if unknown := set(wanted) - set(TESTS):
        parser.error(f"{', '.join(sorted(unknown))} must be among {', '.join(TESTS)}")
    text = Path(__file__).with_name("mutations.txt").read_text(encoding="utf-8")
    mutations = [mutation for mutation in read_mutations(text) if mutation.statistic in wanted]
    with tempfile.TemporaryDirectory(prefix="mutation_check_") as folder:
        copy = Path(folder)
        copy_project(copy)
        move_to(copy)
        for statistic in wanted:
            if run_tests(copy, statistic) != "survived":
                print(f"{statistic}: the tests fail without any mutation; repair that first")
                print((copy / REPORT).read_text(encoding="utf-8"))
                os.chdir(ROOT)
                return 1
        verdicts = [(mutation, verdict_of(copy, mutation)) for mutation in mutations]
        os.chdir(ROOT)
    counts = collections.Counter((mutation.statistic, verdict) for mutation, verdict in verdicts)
    print("\n" + "statistic".ljust(30) + "".join(verdict.rjust(10) for verdict in VERDICTS))
    for statistic in wanted:
        print(statistic.ljust(30) + "".join(str(counts[statistic, verdict]).rjust(10) for verdict in VERDICTS))
    totals = collections.Counter(verdict for _, verdict in verdicts)
    print("all".ljust(30) + "".join(str(totals[verdict]).rjust(10) for verdict in VERDICTS))
    return int(totals["killed"] < len(verdicts))


def read_mutations(text: str) -> list[Mutation]:
    """Read mutations.txt, whose first lines say how it is written."""
    mutations = []
    for group in text.split("\n= ")[1:]:
        statistic, *blocks = group.split("\n@ ")
        for block in blocks:
            place, *lines = block.rstrip("\n").split("\n")
            file, _, what = place.partition(": ")
            old, new = ("\n".join(line[2:] for line in lines if line.startswith(sign)) for sign in "-+")
            mutations.append(Mutation(statistic=statistic.strip(), file=file, what=what, old=old, new=new))
    return mutations


def copy_project(folder: Path) -> None:
    """Copy sources and tests, without checkpoints and caches."""
    ignored = shutil.ignore_patterns("__pycache__", "*.safetensors", "*.pyc")
    for name in COPIED:
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, folder / name, ignore=ignored)
        else:
            shutil.copy(source, folder / name)


def move_to(copy: Path) -> None:
    """Let this process import from the copy, and import what no mutation touches; statistics stay unimported."""
    os.chdir(copy)
    # Without bytecode files: two mutations of equal length within one second would look the same to the cache.
    sys.dont_write_bytecode = True
    for name in [name for name in sys.modules if name.partition(".")[0] in ("tests", "analysis", "uoe_model")]:
        del sys.modules[name]
    sys.path[:] = [str(copy), *(path for path in sys.path if Path(path or ".").resolve() not in (ROOT, copy))]
    for name in PRELOADED:
        importlib.import_module(name)
    random_traces = importlib.import_module("tests.analysis.random_traces")
    if not str(random_traces.__file__).startswith(str(copy)):
        raise RuntimeError(f"tests were imported from {random_traces.__file__}, not from {copy}")
    random_traces.random_traces()


def verdict_of(copy: Path, mutation: Mutation) -> str:
    """`killed`, `survived`, or `broken` (its text is not there exactly once, or the tests could not judge it)."""
    path = copy / mutation.file
    source = path.read_text(encoding="utf-8")
    if source.count(mutation.old) != 1 or mutation.old == mutation.new:
        verdict = "broken"
    else:
        path.write_text(source.replace(mutation.old, mutation.new), encoding="utf-8")
        try:
            verdict = run_tests(copy, mutation.statistic)
        finally:
            path.write_text(source, encoding="utf-8")
    print(f"{verdict:<9} {mutation.statistic:<30} {mutation.file}: {mutation.what}", flush=True)
    return verdict


def run_tests(copy: Path, statistic: str) -> str:
    """Run the tests of a statistic in the copy until the first failure; a crash is no verdict, a wrong result is."""
    report = copy / REPORT
    sys.stdout.flush()
    child = os.fork()
    if child == 0:
        status = NO_VERDICT
        try:
            with report.open("w", encoding="utf-8") as file:
                os.dup2(file.fileno(), 1)
                os.dup2(file.fileno(), 2)
                status = int(pytest.main(["-q", "-x", "-p", "no:cacheprovider", *TESTS[statistic]]))
                sys.stdout.flush()
        finally:
            if sys.exc_info()[0]:
                traceback.print_exc()
            os._exit(status)  # at once: nothing of the parent, such as its folder, is for the child to clean up
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    is_wrong = status == FAILED and any(sign in report.read_text("utf-8") for sign in SIGNS_OF_A_WRONG_RESULT)
    return "survived" if status == PASSED else "killed" if is_wrong else "broken"


if __name__ == "__main__":
    sys.exit(main())
