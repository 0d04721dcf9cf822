import dataclasses

import numpy as np
import pytest

from analysis.confidence import router_entropy
from analysis.figures.picture_map import build_picture_map
from analysis.figures.route_columns import ROW_DROPPED, ROW_INHERITED, build_route_columns, palette_payload
from analysis.figures.theme import IDENTITIES, focus_palette
from analysis.figures.token_map import build_token_map
from analysis.routes import ROUTE_STATUSES, unit_routes
from tests.analysis.random_traces import random_traces
from tests.traces import make_trace
from uoe_model.trace import RoutingTrace, text_column


def test_columns_hold_every_request_of_every_unit_in_order():
    trace = make_trace("L0.mlp: 0>E2,E1! 1>E0! 2 3>E1,E0; L1.mlp: 0>E1 1>E1~ 2>E0 3>E2", num_experts=3)
    routes = build_route_columns(trace)
    assert routes.row_start.tolist() == [0, 2, 3, 3, 5, 6, 6, 7, 8]
    assert routes.expert.tolist() == [2, 1, 0, 1, 0, 1, 0, 2]
    assert (routes.flags & ROW_DROPPED).tolist() == [0, 1, 1, 0, 0, 0, 0, 0]
    assert routes.first_expert.tolist() == [2, -1, -1, 1, 1, -1, 0, 2]
    assert [ROUTE_STATUSES[status] for status in routes.status] == [
        *("partly dropped", "dropped", "unrouted", "kept"),
        *("kept", "unrouted", "kept", "kept"),
    ]
    assert routes.gate.tolist() == [1, 0, 0, 1, 1, 1, 1, 1]
    assert [site["label"] for site in routes.sites] == ["L0 MLP", "L1 MLP"]


def test_columns_agree_with_the_table_of_routes():
    for trace, _ in random_traces():
        routes, table = build_route_columns(trace), unit_routes(trace)
        start = routes.row_start.astype(np.int64)
        assert start[-1] == len(routes.expert) == len(routes.gate) == len(routes.score) == len(routes.flags)
        assert [ROUTE_STATUSES[status] for status in routes.status] == table["status"].tolist()
        assert routes.first_expert.tolist() == table["first_expert"].tolist()
        for place, (requested, kept, inherited) in enumerate(
            zip(table["requested_experts"], table["kept_experts"], table["inherited"], strict=True)
        ):
            part = slice(start[place], start[place + 1])
            asked, flags = routes.expert[part], routes.flags[part]
            assert " ".join(f"E{expert}" for expert in asked) == requested
            assert " ".join(f"E{expert}" for expert in asked[flags & ROW_DROPPED == 0]) == kept
            assert not inherited or len(flags) == 0 or bool((flags & ROW_INHERITED).all())


def test_margins_are_those_of_the_router_or_say_why_they_are_unknown():
    for trace, _ in random_traces():
        routes, table = build_route_columns(trace), router_entropy(trace)
        assert routes.margin.tolist() == pytest.approx(table["margin"].tolist(), abs=1e-6, nan_ok=True)
        for site, rows in table.groupby("site_id"):
            assert routes.sites[site]["margin_unknown"] == rows["reason"].iloc[0]


def test_maps_of_any_trace_can_be_packed():
    for trace, _ in random_traces()[:30]:
        assert build_token_map(trace).packed(channel="map", version="run")
        assert build_picture_map(trace, width=34, height=34).packed(channel="m", version="r", original="", model="")


def test_a_run_of_4096_tokens_and_8_sites_with_top_4_takes_less_than_a_megabyte():
    words = " ".join(
        f"{unit}>E{unit % 8},E{(unit + 1) % 8},E{(unit + 3) % 8},E{(unit + 5) % 8}" for unit in range(4096)
    )
    names = [f"L{layer}.{block}" for layer in range(4) for block in ("attention", "mlp")]
    logits = np.zeros((4096, 8), dtype=np.float32)
    trace = make_trace(
        "; ".join(f"{name}: {words}" for name in names), num_experts=8, logits=dict.fromkeys(range(8), logits)
    )
    assert len(build_token_map(trace).packed(channel="map", version="run")) < 1_000_000


def test_a_palette_holds_the_experts_that_have_a_colour():
    assert palette_payload({4: focus_palette(9, pinned=(2,))}) == {"4": {"2": IDENTITIES[2]}}


def with_spans(trace: RoutingTrace, spans: list[tuple[int, int]], texts: list[str]) -> RoutingTrace:
    start, end = (np.array(column, dtype=np.int32) for column in zip(*spans, strict=True))
    units = dataclasses.replace(trace.units, char_start=start, char_end=end, text=text_column(texts))
    return dataclasses.replace(trace, units=units)


def test_pieces_of_one_character_are_shown_as_one_group():
    trace = make_trace("L0.mlp: 0>E0 1>E0 2>E0 3>E0 4>E0", num_experts=1)
    trace = with_spans(trace, [(0, 1), (1, 3), (2, 3), (2, 3), (3, 4)], ["a", " \ufffd", "\ufffd", "\ufffd", "b"])
    tokens = build_token_map(trace, source_text="a 🙂b")
    assert tokens.text == ("a", " 🙂", "", "", "b")
    assert tokens.part.tolist() == [0, 0, 1, 2, 0]
    assert tokens.parts.tolist() == [1, 3, 3, 3, 1]
    without_source = build_token_map(trace)
    assert without_source.text == ("a", " \ufffd\ufffd\ufffd", "", "", "b")


def test_examples_with_offsets_of_their_own_share_no_characters():
    trace = make_trace("L0.mlp: 0>E0 1>E0", num_experts=1, example_lengths=[1, 1])
    tokens = build_token_map(with_spans(trace, [(0, 5), (0, 5)], ["hello", "again"]), source_text="hello")
    assert tokens.text == ("hello", "again")
    assert tokens.parts.tolist() == [1, 1]


def test_a_token_carries_its_own_loss_and_what_would_come_next():
    trace = make_trace("L0.mlp: 0>E0 1>E0", num_experts=1, losses=[0.5, np.nan])
    tokens = build_token_map(trace)
    assert tokens.loss.tolist() == pytest.approx([np.nan, 0.5], nan_ok=True)
    assert tokens.output_probability.tolist() == [0.25, 0.25]
    assert tokens.is_decoded.tolist() == [0, 0]


def test_a_picture_keeps_the_boxes_of_its_cells():
    pictures = (trace for trace, _ in random_traces() if trace.num_units and trace.units.modality[0] == "image")
    trace = next(trace for trace in pictures if (trace.units.example_id == 0).sum() > 5)
    cells = build_picture_map(trace, width=34, height=40)
    assert (cells.width, cells.height, cells.cols) == (34, 40, 4)
    assert cells.rows == int(trace.units.grid_row.max()) + 1
    assert cells.box[5].tolist() == [8.5, 8.5, 17.0, 17.0]


def test_an_empty_trace_gives_empty_maps():
    trace = make_trace("L0.mlp:", num_experts=2)
    tokens = build_token_map(trace)
    assert tokens.text == ()
    assert tokens.routes.row_start.tolist() == [0]
    assert build_picture_map(trace, width=1, height=1).rows == 0
