"""What a reader does with a run, one test per interaction, on the recorded examples and on live runs."""

import re

import pytest
from playwright.sync_api import BrowserContext, Page, expect

from analysis.drops import dropped_assignments
from analysis.exports.bundle import load_bundle
from analysis.figures.labels import site_label
from analysis.full_experts import full_experts
from analysis.selection import Selection, lit_units
from dashboard.showing import EXAMPLES
from tests.browser.visitor import (
    Routes,
    chip,
    click_expert,
    count_messages,
    lit_units_shown,
    open_link,
    open_panel,
    pick,
    press_run,
    ready_map,
    routes_of_trace,
    run,
    set_new_tokens,
    settle,
    shown_routes,
    shown_version,
    type_text,
    unfold,
    words_on_map,
)
from uoe_model.trace import RoutingTrace

pytestmark = pytest.mark.browser

SENTENCE = "Two boats passed; nobody waved."


@pytest.fixture(scope="module")
def example() -> RoutingTrace:
    """What the page shows first."""
    with EXAMPLES["text"].open("rb") as file:
        return load_bundle(file).runs[0].trace


def kept_by(trace: RoutingTrace, site: int, expert: int) -> list[int]:
    return [unit for unit, _, kept in routes_of_trace(trace)[site] if expert in kept]


def title_of(page: Page, chart: str) -> str:
    return str(page.locator(f".st-key-chart_{chart} .gtitle").text_content())


# ---------------------------------------------------------------- 1: run


def test_1_run_replaces_everything_at_once(page: Page) -> None:
    version, atlas = shown_version(page), page.locator(".st-key-chart_atlas .barlayer").first.inner_html()
    type_text(page, SENTENCE)
    set_new_tokens(page, 0)
    run(page)
    assert words_on_map(page) == SENTENCE
    assert shown_version(page) != version
    expect(page.get_by_text("live run", exact=True)).to_be_visible()
    expect(page.get_by_text("Nothing was generated.")).to_be_visible()
    assert page.locator(".st-key-chart_atlas .barlayer").first.inner_html() != atlas
    assert "show=text" not in page.url


# ---------------------------------------------------------------- 2: atlas


def test_2_a_click_on_the_atlas_lights_what_the_expert_took(page: Page, example: RoutingTrace) -> None:
    click_expert(page, "atlas", 5, 2)
    expect(page.locator('.map[data-site="5"]')).to_be_visible()
    expect(chip(page, "L2 MLP · E2")).to_be_visible()
    expect(page).to_have_url(re.compile(r"site=5&experts=2"))
    expect(page.locator(".map .token.dim")).to_have_count(example.num_units - len(kept_by(example, 5, 2)))
    assert lit_units_shown(page) == kept_by(example, 5, 2)
    assert "L2 MLP" in title_of(page, "load")

    chip(page, "L2 MLP · E2").click()
    expect(page.locator(".map .token.dim")).to_have_count(0)
    expect(page).to_have_url(re.compile(r"site=5$"))
    expect(page.locator('.map[data-site="5"]')).to_be_visible()

    page.locator(".map select.site").select_option("2")  # and the map leads again
    expect(page.locator(".st-key-chart_load .gtitle").last).to_contain_text("L1 attention")


# ---------------------------------------------------------------- 3: hover


def test_3_hovering_shows_the_whole_route_without_the_server(tab: Page, address: str, example: RoutingTrace) -> None:
    messages = count_messages(tab)
    open_link(tab, address, "?show=text&site=1")
    tab.wait_for_timeout(300)
    before = len(messages)
    for unit in (3, 8, 21):
        _, asked, kept = routes_of_trace(example)[1][unit]
        tab.locator(f".map .token[data-unit='{unit}']").hover()
        card = tab.locator(".map .card")
        expect(card).to_be_visible()
        rows = card.locator("table tr").all_inner_texts()[1:]
        assert [int(re.search(r"E(\d+)", row).group(1)) for row in rows] == asked  # type: ignore[union-attr]
        assert ["kept" in row for row in rows] == [expert in kept for expert in asked]
        for word in ("Margin", "Loss", "Next it would say", f"position {unit}"):
            expect(card).to_contain_text(word)
    assert before > 0
    assert len(messages) == before


# ---------------------------------------------------------------- 4: drops


@pytest.mark.parametrize("status", ["dropped", "partly dropped"])
def test_4_drops_are_lit_named_and_counted(tab: Page, address: str, example: RoutingTrace, status: str) -> None:
    lit = {site: lit_units(example, Selection(site_id=site, status=status)) for site in range(example.num_sites)}
    site = max(lit, key=lambda one: int(lit[one].sum()))
    open_link(tab, address, f"?show=text&site={site}")
    tab.locator(f".map .key[data-key='{status}']").click()
    name = site_label(int(example.sites.layer[site]), str(example.sites.block[site]))
    expect(chip(tab, f"{name} · {status}")).to_be_visible()
    assert lit_units_shown(tab) == lit[site].nonzero()[0].tolist()
    expect(tab).to_have_url(re.compile(f"status={status.replace(' ', '-')}"))

    bars = tab.evaluate("""() => document.querySelector('.st-key-chart_drop-strip .js-plotly-plot').calcdata[0]
      .map((bar) => [bar.p0, bar.p1, bar.mc])""")
    places = lit[site].nonzero()[0]
    bright, grey = (
        {colour for low, high, colour in bars if ((places > low) & (places < high)).any() == is_lit}
        for is_lit in (True, False)
    )
    assert len(bright) == len(grey) == len(bright ^ grey) / 2, "bars without any of these positions are grey"
    open_panel(tab, "Who was full")
    full = full_experts(example)
    tab.locator(".st-key-table_full_experts canvas").first.wait_for()
    rows = int(tab.locator(".st-key-table_full_experts [role=grid]").first.get_attribute("aria-rowcount") or 0)
    assert rows == int(full["is_full"].sum()) + 1  # and its header


# ---------------------------------------------------------------- 5 and 6: layers, steps, blocks


def test_5_layers_and_steps_are_scrubbed_in_the_browser(page: Page, example: RoutingTrace) -> None:
    expected = routes_of_trace(example)
    page.evaluate("() => { window.isHeld = true; }")  # from here on the server hears nothing
    for layer in (1, 2, 3):
        page.locator(".map .scrub").press("ArrowRight")
        assert shown_routes(page) == expected[2 * layer]
    prompt = int((example.units.phase == "prefill").sum())
    for _ in range(3):
        page.locator(".map .step-back").click()
    expect(page.locator(".map .step-badge")).to_have_text(re.compile(f"decode step {example.num_units - prompt - 3} "))
    expect(page.locator(".map .token.later")).to_have_count(3)
    page.locator(".map .step").press("Home")
    expect(page.locator(".map .step-badge")).to_have_text("prefill")
    expect(page.locator(".map .token.later")).to_have_count(example.num_units - prompt)

    page.evaluate("() => window.release()")  # and then the other views follow
    expect(page.locator(".st-key-chart_load .gtitle").last).to_contain_text("L3 attention")
    expect(page).to_have_url(re.compile("site=6"))


def test_6_the_same_tokens_in_the_other_block(page: Page, example: RoutingTrace) -> None:
    expected = routes_of_trace(example)
    page.evaluate("() => { window.isHeld = true; }")
    page.locator(".map .block[data-block='mlp']").click()
    assert shown_routes(page) == expected[1]
    page.locator(".map .block[data-block='attention']").click()
    assert shown_routes(page) == expected[0]
    page.locator(".map .block[data-block='mlp']").click()
    page.evaluate("() => window.release()")
    expect(page.locator(".st-key-chart_load .gtitle").last).to_contain_text("L0 MLP")
    page.get_by_role("tab", name="Loss and entropy").click()
    expect(page.locator(".st-key-chart_entropy-strip .gtitle").last).to_contain_text("L0 MLP")


# ---------------------------------------------------------------- 8: A and B


def test_8_a_changed_run_stands_beside_the_pinned_one(page: Page, example: RoutingTrace) -> None:
    """The text of the example is in the panel already."""
    before = shown_routes(page)
    page.get_by_role("button", name="Pin as A").click()
    expect(chip(page, "A: A scene")).to_be_visible()
    set_new_tokens(page, 0)
    unfold(page, "Change the routing")
    pick(page, "knob_capacity_factor", "0.5")
    run(page)
    expect(page.get_by_text("capacity factor 0.5").first).to_be_visible()
    after = shown_routes(page)
    assert 0 < len(changed(before, after)) < len(after)
    expect(page.locator(".map .token[data-changed]")).to_have_count(len(changed(before, after)))
    marked = page.locator(".map .token[data-changed]").evaluate_all("all => all.map((one) => Number(one.dataset.unit))")
    assert marked == changed(before, after)
    page.locator(".map .key[data-key='changed']").click()
    assert lit_units_shown(page) == marked
    page.locator(".map .key[data-key='changed']").click()

    open_panel(page, "A and B")
    expect(page.get_by_text(re.compile("^B: .*capacity factor 0.5$"))).to_be_visible()
    expect(page.locator(".st-key-chart_route-changes .js-plotly-plot")).to_be_visible()
    click_expert(page, "atlas-difference", 3, 1)
    expect(chip(page, "L1 MLP · E1")).to_be_visible()
    expect(page.locator('.map[data-site="3"]')).to_be_visible()
    expect(page.get_by_text("this change alone moved the loss by")).to_be_visible()

    chip(page, "A: A scene").click()
    expect(page.locator(".map .token[data-changed]")).to_have_count(0)


def changed(before: Routes, after: Routes) -> list[int]:
    """Units of both runs that other experts kept, or another one first."""
    return [
        unit
        for (unit, _, kept), (_, _, now) in zip(before, after, strict=False)
        if sorted(kept) != sorted(now) or kept[:1] != now[:1]
    ]


def test_what_routing_buys_is_measured_with_one_button(page: Page) -> None:
    open_panel(page, "What routing buys")
    expect(page.locator(".st-key-chart_routing-value .js-plotly-plot")).to_be_visible()  # recorded in the example
    type_text(page, SENTENCE)
    set_new_tokens(page, 0)
    run(page)
    version = shown_version(page)
    page.get_by_role("button", name="Measure what routing buys").click()
    expect(page.locator(".st-key-chart_routing-value .js-plotly-plot")).to_be_visible()
    expect(page.get_by_role("button", name="CSV of this table")).to_be_visible()
    assert shown_version(page) == version


# ---------------------------------------------------------------- 9: bars and flow


def test_9_bars_and_flow_nodes_select_their_expert(tab: Page, address: str, example: RoutingTrace) -> None:
    open_link(tab, address, "?show=text&site=3")
    click_expert(tab, "load", 3, 4)
    expect(chip(tab, "L1 MLP · E4")).to_be_visible()
    assert lit_units_shown(tab) == kept_by(example, 3, 4)
    open_panel(tab, "Flow")
    click_expert(tab, "flow", 5, 1)
    expect(chip(tab, "L2 MLP · E1")).to_be_visible()
    expect(tab.locator('.map[data-site="5"]')).to_be_visible()
    assert lit_units_shown(tab) == kept_by(example, 5, 1)


# ---------------------------------------------------------------- keyboard, links, tour


def test_everything_on_the_map_can_be_done_with_the_keyboard(page: Page, example: RoutingTrace) -> None:
    page.locator(".map .legend button[tabindex='0']").focus()
    page.keyboard.press("Tab")
    focused = page.locator(".map .token:focus")
    expect(focused).to_have_attribute("data-unit", "0")
    for key in ("ArrowRight", "ArrowRight", "]", "m", "ArrowRight"):
        page.keyboard.press(key)
    expect(focused).to_have_attribute("data-unit", "3")
    expect(page.locator('.map[data-site="3"]')).to_be_visible()
    expect(page.locator(".map .card")).to_be_visible()
    page.keyboard.press("Enter")
    expect(page.locator(".map .token[data-unit='3']")).to_have_attribute("aria-selected", "true")
    expect(chip(page, "at 3")).to_be_visible()
    expect(page).to_have_url(re.compile("site=3&units=3"))
    expect(page.locator(".st-key-chart_unit .js-plotly-plot")).to_be_visible()
    page.locator(".map .token[data-unit='3']").focus()
    page.keyboard.press("[")
    expect(page.locator('.map[data-site="1"]')).to_be_visible()


def test_a_link_shows_somebody_else_the_same(page: Page, window: BrowserContext, address: str) -> None:
    """A live run, filtered, in a tab of another visitor."""
    type_text(page, SENTENCE)
    set_new_tokens(page, 0)
    run(page)
    page.locator(".map select.site").select_option("3")
    page.locator(".map .key[data-key]").first.click()
    page.locator(".map .token").nth(2).click()
    expect(page).to_have_url(re.compile("site=3&experts=.*units=2"))
    other = window.new_page()
    other.goto(page.url)
    ready_map(other)
    settle(other)
    assert shown_routes(other) == shown_routes(page)
    assert lit_units_shown(other) == lit_units_shown(page)
    assert other.locator(".st-key-chips").inner_text() == page.locator(".st-key-chips").inner_text()
    assert title_of(other, "load") == title_of(page, "load")
    assert other.url == page.url
    other.close()


def test_the_tour_leads_to_what_it_speaks_of(tab: Page, address: str, example: RoutingTrace) -> None:
    tab.goto(f"{address}/guide")
    links = tab.get_by_role("link", name="Show me")
    links.first.wait_for()
    settle(tab)
    targets = links.evaluate_all("all => all.map((one) => one.href)")
    assert len(targets) >= 5
    fullest = dropped_assignments(example).sort_values("dropped").iloc[-1]
    wanted = f"site={fullest['site_id']}&experts={fullest['expert_id']}"
    place = next(place for place, target in enumerate(targets) if wanted in target)
    with tab.context.expect_page() as opened:
        links.nth(place).click()
    explore = opened.value
    ready_map(explore)
    expect(chip(explore, f"E{fullest['expert_id']}")).to_be_visible()
    site, expert = int(fullest["site_id"]), int(fullest["expert_id"])
    expect(explore.locator(f'.map[data-site="{site}"]')).to_be_visible()
    assert lit_units_shown(explore) == kept_by(example, site, expert)
    explore.close()


# ---------------------------------------------------------------- generation


def test_a_text_is_shown_while_it_is_written_and_cancel_leaves_the_last_run(page: Page) -> None:
    version = shown_version(page)
    type_text(page, SENTENCE)
    set_new_tokens(page, 200)
    press_run(page)
    words = page.locator(".stream .word")
    words.nth(2).wait_for()
    seen = words.count()
    words.nth(seen + 3).wait_for()  # it grows
    page.get_by_role("button", name="Cancel").click()
    expect(page.locator(".stream")).to_have_count(0)
    expect(page.get_by_role("button", name="Cancel")).to_have_count(0)
    settle(page)
    assert shown_version(page) == version
    expect(page.get_by_text("example; live model ready")).to_be_visible()
