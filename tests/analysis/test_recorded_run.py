"""Tables of a run are computed once, the last ones are kept, and no two runs are taken for one another."""

import gc

from analysis.recorded_run import MAX_PARTS, RecordedRun
from analysis.utilisation import expert_load
from tests.traces import make_trace


def make_run() -> RecordedRun:
    return RecordedRun(name="a run", trace=make_trace("L0.mlp: 0>E0 1>E1", num_experts=2))


def test_a_table_is_computed_once_per_options():
    tables = make_run().tables
    assert tables.table(expert_load) is tables.table(expert_load)


def test_only_the_parts_used_last_are_kept():
    tables, built = make_run().tables, []
    for number in range(3 * MAX_PARTS):
        tables.part("first", lambda: built.append("first"))
        tables.part(str(number), lambda: built.append("other"))
    assert built.count("first") == 1
    tables.part("0", lambda: built.append("again"))
    assert built[-1] == "again"
    assert len(tables._made) == MAX_PARTS


def test_a_run_never_takes_the_serial_of_a_forgotten_one():
    serials = []
    for _ in range(50):
        run = make_run()
        serials.append(run.serial)
        del run
        gc.collect()
    assert len(set(serials)) == 50
