import pytest

from analysis.balance import load_balance
from analysis.compare import compare_runs, load_difference, route_changes
from analysis.comparison import (
    comparison_dependence,
    comparison_differences,
    comparison_positions,
    comparison_runs,
    comparison_table,
)
from analysis.confidence import router_entropy
from analysis.decomposition import decomposition_curve
from analysis.drops import drop_events, dropped_assignments, dropped_units, drops_by_position
from analysis.full_experts import full_experts
from analysis.glossary import COLUMN_TERMS, TERMS, term_of
from analysis.routes import unit_routes
from analysis.routing_value import input_routing_value_table, routing_value_table
from analysis.summary import summary
from analysis.tables import assignments_table, capacities_table, reference_table, sites_table, units_table
from analysis.transitions import transitions
from analysis.unit_card import unit_card, unit_facts
from analysis.utilisation import expert_load, expert_load_against_reference
from tests.traces import make_trace

NO_COMPARISON = {"variants": [], "runs": [], "differences": []}
STATISTICS = {
    "expert_load": lambda trace: expert_load(trace, by_example=True),
    "expert_load_against_reference": expert_load_against_reference,
    "dropped_assignments": dropped_assignments,
    "dropped_units": dropped_units,
    "drops_by_position": drops_by_position,
    "drop_events": drop_events,
    "router_entropy": router_entropy,
    "load_balance": load_balance,
    "unit_routes": unit_routes,
    "summary": summary,
    "sites_table": sites_table,
    "units_table": units_table,
    "assignments_table": assignments_table,
    "capacities_table": capacities_table,
    "reference_table": reference_table,
    "routing_value_table": lambda trace: routing_value_table([]),
    "input_routing_value_table": lambda trace: input_routing_value_table([]),
    "decomposition_curve": lambda trace: decomposition_curve(
        {"options": {"attention_experts": 1, "mlp_experts": 1}, "curve": []}
    ),
    "transitions": lambda trace: transitions(trace, [0, 0]),
    "full_experts": full_experts,
    "unit_card": lambda trace: unit_card(trace, 0),
    "unit_facts": lambda trace: unit_facts(trace, 0),
    "load_difference": lambda trace: load_difference(trace, trace),
    "route_changes": lambda trace: route_changes(trace, trace),
    "compare_runs": lambda trace: compare_runs(trace, trace),
    "comparison_table": lambda trace: comparison_table(NO_COMPARISON),
    "comparison_runs": lambda trace: comparison_runs(NO_COMPARISON),
    "comparison_differences": lambda trace: comparison_differences(NO_COMPARISON),
    "comparison_dependence": lambda trace: comparison_dependence(NO_COMPARISON),
    "comparison_positions": lambda trace: comparison_positions(NO_COMPARISON),
}
IDS = {
    *("site_id", "layer", "unit_id", "example_id", "patch_id", "position", "expert_id", "first_expert", "token_id"),
    *("bin", "position_start", "position_end", "output_token_id", "char_start", "char_end", "grid_row", "grid_col"),
    *("box_x0", "box_y0", "box_x1", "box_y1"),
    *("from_site_id", "from_layer", "from_expert_id", "to_site_id", "to_layer", "to_expert_id"),
    *("unit_id_a", "first_expert_a", "first_expert_b", "seed"),
}
TEXTS = {
    *("block", "site_name", "name", "text", "status", "requested_experts", "kept_experts", "reason", "note", "term"),
    *("unit", "modality", "label", "output_text", "model", "is_special", "scope"),
    *("from_block", "to_block", "status_a", "status_b", "experts_a", "experts_b"),
    *("variant", "baseline", "target"),
}
ANY_NUMBER = {"value", "value_a", "value_b", "a", "b", "change"}
"""Which term it is stands in the row or in the call."""


@pytest.mark.parametrize("statistic", STATISTICS)
def test_every_column_is_an_id_a_text_or_a_term(statistic):
    table = STATISTICS[statistic](make_trace("L0.mlp: 0>E0 1>E0!", num_experts=2))
    for column in table.columns:
        if column not in IDS | TEXTS | ANY_NUMBER:
            assert term_of(column).sentence, column


@pytest.mark.parametrize("key", TERMS)
def test_every_term_is_a_sentence_with_a_source(key):
    term = TERMS[key]
    assert term.name
    assert term.sentence.endswith(".")
    assert term.source
    assert not term.formula.endswith(".")


def test_names_are_unique_and_columns_point_to_terms():
    assert len({term.name for term in TERMS.values()}) == len(TERMS)
    assert set(COLUMN_TERMS.values()) <= set(TERMS)
    assert not set(COLUMN_TERMS) & set(TERMS)


def test_the_words_of_the_project_are_explained():
    words = {
        *("requested", "load", "gate", "load_share", "relative_load", "utilisation", "idle_experts", "dead_experts"),
        *("entropy", "margin", "co_activation", "transition", "capacity", "dropped", "dropped_units", "slots"),
        *("unrouted_units", "filler", "balance_loss", "effective_experts", "reference", "chance_band", "patches"),
        *("load_difference", "changed_route", "changed_first", "loss_change", "full_experts", "transition_share"),
    }
    assert words <= set(TERMS)


def test_an_id_has_no_term():
    with pytest.raises(KeyError):
        term_of("unit_id")


def test_capacity_is_the_formula_that_the_model_uses():
    torch = pytest.importorskip("torch")
    from uoe_model.capacity import example_capacity
    from uoe_model.config import RouterConfig

    config = RouterConfig(num_experts=8, num_experts_per_tok=3, capacity_factor=1.25)
    assert TERMS["capacity"].formula.startswith("C = ceil(f * k * patches / E)")
    assert example_capacity(config, torch.tensor([10])).tolist() == [5]  # ceil(1.25 * 3 * 10 / 8 = 4.69)
