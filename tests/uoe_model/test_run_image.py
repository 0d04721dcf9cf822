"""Running a picture: the trace is what the model decided about its cells, and the cells lie where the model looked."""

import math

import numpy as np
import pytest
import torch

from tests.uoe_model.bundles import assert_checks_pass, assert_comes_back, assert_rows, image_bundle, picture, rows_of
from tests.uoe_model.models import free_router
from uoe_model.errors import ConfigError
from uoe_model.result import ClassPrediction, ImageInput
from uoe_model.router import RoutingOverrides
from uoe_model.run import run_image_on


@pytest.mark.parametrize("patch_len", [1, 3])
@pytest.mark.parametrize(
    "router",
    [free_router(), free_router(selection="expert_choice"), free_router(selection="expert", capacity_factor=None)],
    ids=["data", "expert choice", "expert"],
)
def test_a_trace_of_a_picture_is_what_the_model_decided_cell_by_cell(router, patch_len):
    routers = {name: router | {"patch_len": patch_len} for name in ("attention_router", "mlp_router")}
    bundle = image_bundle(**routers)
    result = run_image_on(bundle, picture())
    with torch.inference_mode():
        output = bundle.model(pixel_values=torch.from_numpy(bundle.image_processor(picture())["pixel_values"]))
    trace, selection = result.trace, router.get("selection", "data")
    assert_rows(trace, rows_of([output]))
    assert_checks_pass(trace)
    assert_comes_back(trace)
    assert trace.units.patch_id.tolist() == [cell // patch_len for cell in range(16)]
    assert not trace.assignments.inherited.any()
    assert set(trace.sites.selection.tolist()) == {selection}
    if selection == "expert_choice":
        asked = {(site, unit) for site, unit, *_ in rows_of([output])}
        assert len(asked) < len(trace.sites) * 16  # somebody was picked by nobody
    if selection == "expert":
        assert (trace.capacities.capacity == -1).all()

    assert isinstance(result.prediction, ClassPrediction)
    exponents = [math.exp(value) for value in output.logits[0].tolist()]
    assert result.prediction.labels == ("cat", "ship", "tree")
    np.testing.assert_allclose(result.prediction.probabilities, np.asarray(exponents) / sum(exponents), rtol=1e-6)


def test_overrides_of_an_image_run_are_in_the_trace():
    bundle, overrides = image_bundle(), RoutingOverrides(capacity_factor=None, num_experts_per_tok=4, gate="one")
    result = run_image_on(bundle, picture(), overrides=overrides)
    with torch.inference_mode():
        pixels = torch.from_numpy(bundle.image_processor(picture())["pixel_values"])
        output = bundle.model(pixel_values=pixels, routing=overrides)
    assert_rows(result.trace, rows_of([output]))
    assert (result.trace.assignments.gate == 1).all()
    assert np.isnan(result.trace.sites.capacity_factor).all()
    router = free_router(selection="expert", capacity_factor=None)
    bundle = image_bundle(attention_router=router, mlp_router=router)
    with pytest.raises(ConfigError, match="has no capacity"):
        run_image_on(bundle, picture(), overrides=RoutingOverrides(capacity_factor=1.0))


def test_cells_are_numbered_row_by_row_and_lie_where_the_model_looked():
    result = run_image_on(image_bundle(), picture(width=40, height=20), name="wide.png")
    units = result.trace.units
    for cell in range(16):
        row, column = divmod(cell, 4)
        assert (units.grid_row[cell], units.grid_col[cell]) == (row, column)
        box = (units.box_x0[cell], units.box_y0[cell], units.box_x1[cell], units.box_y1[cell])
        assert box == (10 + 5 * column, 5 * row, 15 + 5 * column, 5 * row + 5)
    assert set(units.modality.tolist()) == {"image"}
    assert (units.token_id == -1).all()
    assert isinstance(result.input, ImageInput)
    assert result.input.pixels.shape == (20, 40, 3)
    assert result.input.model_pixels.shape == (8, 8, 3)
    assert (result.input.original_width, result.input.original_height) == (40, 20)
    assert (result.input.name, result.input.fit) == ("wide.png", "crop")


def test_a_changed_pixel_changes_the_cell_whose_box_holds_it():
    bundle = image_bundle(stem_channels=[])  # cells that do not see their neighbours
    before = run_image_on(bundle, picture()).trace
    for cell in range(16):
        changed = picture()
        x, y = int(before.units.box_x0[cell]), int(before.units.box_y0[cell])
        changed[y, x] = 255 - changed[y, x]
        after = run_image_on(bundle, changed).trace
        differs = (before.router_logits[0] != after.router_logits[0]).any(axis=1)
        assert np.flatnonzero(differs).tolist() == [cell]
