"""How long a visitor waits: first paint, clicks, runs, and what crosses the wire meanwhile. Needs Chromium.

    python -m tests.benchmarks.bench_page [--quick] [--repetitions N] [--browser PATH] [--output FOLDER]

The real page on a free port, a real browser at 1440x900, the bundled text model. Times are taken by the browser's own
clock, from the navigation or the press of the mouse to the frame that shows the result: `lit` when the map is redrawn,
`charts` when the last chart is, `settled` when nothing on the page changes any more. Sizes are those of all frames that
the server sent over its websocket meanwhile. Medians over the repetitions, every visit in a fresh browser context.
"""

import argparse
import contextlib
import json
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from playwright.sync_api import Browser, Page, WebSocket, sync_playwright

from dashboard.samples import TEXT_SAMPLES
from tests.benchmarks.machine import NOISY, RESULTS, ROOT, busy_cores, read_machine

SCHEMA_VERSION: Final = 1
START_S, WAIT_MS = 180, 120_000
QUIET_MS = 700
"""A page that has not changed for so long is complete."""

FIRST_SIGHT: Final[Mapping[str, str]] = {
    "map": ".map[data-ready]",
    "atlas": ".st-key-chart_atlas .js-plotly-plot .barlayer .point path",
    "drop strip": ".st-key-chart_drop-strip .js-plotly-plot .cartesianlayer",
}
CELL: Final = ".st-key-chart_atlas .js-plotly-plot .barlayer .point path"
RECORDER: Final = Path(__file__).with_name("page_recorder.js").read_text(encoding="utf-8")

PDF: Final = """
import json, sys, time
started = time.perf_counter()
from analysis.exports.bundle import load_bundle
from analysis.exports.files import export_view
from analysis.exports.presets import PRESETS
with open(sys.argv[1], "rb") as file:
    exhibit = load_bundle(file)
seconds = []
for _ in range(1 + int(sys.argv[2])):
    export_view(exhibit, sys.argv[3], "pdf", preset=PRESETS["icml"])
    seconds.append(time.perf_counter() - started)
    started = time.perf_counter()
print(json.dumps(seconds))
"""


class Visitor:
    """A page and the bytes that the server has sent to it."""

    def __init__(self, page: Page) -> None:
        self.page = page
        self.num_bytes = self.num_frames = 0
        self.largest = 0
        page.set_default_timeout(WAIT_MS)
        page.add_init_script(RECORDER)
        page.on("websocket", self._listen)

    def _listen(self, websocket: WebSocket) -> None:
        websocket.on("framereceived", self._count)

    def _count(self, payload: str | bytes) -> None:
        size = len(payload)
        self.num_bytes, self.num_frames, self.largest = (
            self.num_bytes + size,
            self.num_frames + 1,
            max(self.largest, size),
        )

    def forget(self) -> None:
        """Count from here."""
        self.num_bytes = self.num_frames = self.largest = 0

    def settle(self) -> dict[str, float]:
        """Wait until nothing changes any more; when what appeared and changed last, in ms."""
        self.page.wait_for_function(
            """(quiet) => document.querySelector('[data-test-script-state=notRunning]')
                && Object.keys(bench.watched).every((name) => name in bench.seen)
                && performance.now() - bench.startedAt - Math.max(0, ...Object.values(bench.last)) > quiet""",
            arg=QUIET_MS,
        )
        found: dict[str, dict[str, float]] = self.page.evaluate("() => ({ seen: bench.seen, last: bench.last })")
        last = found["last"]
        return {
            **{f"{name} seen": value for name, value in found["seen"].items()},
            **({"lit": last["map"]} if "map" in last else {}),
            **({"charts": last["chart"]} if "chart" in last else {}),
            "settled": max(last.values(), default=0.0),
        }

    def measure(self, act: Callable[[], None], watched: Mapping[str, str] | None = None) -> dict[str, float]:
        """Do something that begins with a press of the mouse; times in ms, and what was received."""
        self.page.evaluate("(watched) => bench.startAtClick(watched)", dict(watched or {}))
        self.forget()
        act()
        self.page.wait_for_timeout(100)
        return self.settle() | {"kilobytes": self.num_bytes / 1e3, "frames": float(self.num_frames)}


def main(arguments: Sequence[str] | None = None) -> Path:
    """Measure, print the medians, and write the JSON they were printed from."""
    parser = argparse.ArgumentParser(description="How long a visitor of the page waits.")
    parser.add_argument("--quick", action="store_true", help="two repetitions")
    parser.add_argument("--repetitions", type=int, default=7)
    parser.add_argument("--browser", default="/usr/bin/chromium", help="the Chromium to drive")
    parser.add_argument("--output", type=Path, default=RESULTS)
    options = parser.parse_args(arguments)
    repetitions = 2 if options.quick else options.repetitions
    busy_before = busy_cores()
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=options.browser, args=["--no-sandbox"])
        rows = measure(browser, repetitions)
        record = read_machine("streamlit", "plotly", "torch", "playwright") | {"browser": browser.version}
        browser.close()
    rows += [measure_pdf(kind, view, repetitions) for kind, view in (("text", "atlas"), ("text", "map"))]
    busy_after = busy_cores()
    busy = [cores for cores in (busy_before, busy_after) if cores is not None]
    record |= {
        "schema": SCHEMA_VERSION,
        "repetitions": repetitions,
        "others_cores": busy,
        "noisy": any(cores > NOISY for cores in busy),
        "rows": rows,
    }
    for row in rows:
        sys.stdout.write(_printed(row))
    options.output.mkdir(parents=True, exist_ok=True)
    path: Path = options.output / ("page-quick.json" if options.quick else "page.json")
    path.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    sys.stdout.write(f"{path}{f': others were using the machine ({busy} cores)' if record['noisy'] else ''}\n")
    return path


def measure(browser: Browser, repetitions: int) -> list[dict[str, Any]]:
    """Everything that happens in the browser."""
    rows = []
    fresh = []
    for _ in range(min(repetitions, 3)):
        with server() as address:
            fresh.append(first_paint(browser, address))
    rows.append(_row("first paint, server just started", fresh, aim_ms=3000))
    with server() as address, tempfile.TemporaryDirectory() as folder:
        first_paint(browser, address)
        rows.append(
            _row("first paint, later visitor", [first_paint(browser, address) for _ in range(repetitions)], aim_ms=3000)
        )
        with visitor(browser, address) as one:
            rows += measure_clicks(one, "example", repetitions)
            rows += measure_runs(one, repetitions)
            upload(one, long_text(Path(folder)))
            rows += measure_clicks(one, "long text", repetitions)
    return rows


def first_paint(browser: Browser, address: str) -> dict[str, float]:
    """Open the page in a new context; times since the start of the navigation."""
    with visitor(browser, address, watched=FIRST_SIGHT) as one:
        return one.settle() | {"kilobytes": one.num_bytes / 1e3, "frames": float(one.num_frames)}


def measure_clicks(one: Visitor, name: str, repetitions: int) -> list[dict[str, Any]]:
    """Click cells of the atlas, hover over the map."""
    page = one.page
    units = page.locator(".map .token").count()
    cells = page.locator(CELL).count()
    found = []
    for index in range(repetitions + 1):
        cell = page.locator(CELL).nth((7 * index + 3) % cells)
        cell.scroll_into_view_if_needed()
        box = cell.bounding_box()
        if box is None:
            raise SystemExit("a cell of the atlas is not on the page")
        x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
        page.mouse.move(x, y)  # plotly's own layer lies over the cells and looks for what is under the pointer
        page.wait_for_timeout(400)
        found.append(one.measure(lambda x=x, y=y: page.mouse.click(x, y)))  # type: ignore[misc]
    one.forget()
    tokens = page.locator(".map .token")
    for index in range(12):
        tokens.nth(index).hover()
        page.wait_for_timeout(40)
    page.wait_for_timeout(600)
    return [
        _row(f"click on the atlas, {name}", found[1:], aim_ms=250, units=units),
        _row(f"hover over the map, {name}", [{"kilobytes": one.num_bytes / 1e3, "frames": float(one.num_frames)}]),
    ]


def measure_runs(one: Visitor, repetitions: int) -> list[dict[str, Any]]:
    """Run texts that fill the model's context, nothing generated; the first run also loads the model."""
    page = one.page
    page.get_by_text("Generation", exact=True).click()
    box = page.get_by_role("spinbutton", name="Tokens to generate")
    box.fill("0")
    box.press("Enter")
    page.wait_for_timeout(500)
    one.settle()
    found, units = [], 0
    words = " ".join(sample.read_text() for sample in TEXT_SAMPLES if sample.title in ("A scene", "A program")).split()
    for index in range(repetitions + 1):
        text = page.get_by_role("textbox", name="Text", exact=True)
        text.fill(" ".join((words[index:] + words[:index])[:350])[:1780])
        text.blur()
        page.wait_for_timeout(500)
        one.settle()
        before = page.locator(".map").get_attribute("data-ready")
        run = page.get_by_role("button", name="Run", exact=True)
        found.append(one.measure(run.click, {"map": f'.map[data-ready]:not([data-ready="{before}"])'}))
        units = page.locator(".map .token").count()
    return [
        _row("run, the first one", found[:1], units=units),
        _row("run, click to complete page", found[1:], aim_ms=2000, units=units),
    ]


def upload(one: Visitor, path: Path) -> None:
    """Run a text file."""
    page = one.page
    page.get_by_test_id("stSidebar").get_by_role("radio", name="Files", exact=True).click()
    page.wait_for_timeout(500)
    one.settle()
    page.locator("input[type=file]").first.set_input_files(path)
    page.get_by_text(path.name).first.wait_for()
    page.wait_for_timeout(800)
    one.settle()
    before = page.locator(".map").get_attribute("data-ready")
    run = page.get_by_role("button", name="Run", exact=True)
    one.measure(run.click, {"map": f'.map[data-ready]:not([data-ready="{before}"])'})


def long_text(folder: Path) -> Path:
    """About 4,000 tokens."""
    text = "\n".join(sample.read_text() for sample in TEXT_SAMPLES if sample.title == "A scene")
    path = folder / "long.txt"
    path.write_text((text + "\n") * (13_900 // len(text) + 1), encoding="utf-8")
    return path


def measure_pdf(kind: str, view: str, repetitions: int) -> dict[str, Any]:
    """A figure of the bundled run as PDF in a process of its own: with its imports, then again."""
    example = ROOT / "dashboard" / "examples" / f"{kind}.zip"
    command = [sys.executable, "-c", PDF, str(example), str(repetitions), view]
    cold, warm = [], []
    for _ in range(min(repetitions, 3)):
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
        first, *others = json.loads(done.stdout)
        cold.append(first)
        warm += others
    return {
        "name": f"PDF of {view}",
        "cold_s": statistics.median(cold),
        "warm_s": statistics.median(warm),
        "aim_cold_s": 3.0,
        "aim_warm_s": 0.5,
    }


@contextlib.contextmanager
def server() -> Iterator[str]:
    """The page, started as the README says, ready to answer."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "streamlit", "run", "dashboard/app.py", "--server.headless", "true"]
    command += ["--server.port", str(port), "--server.address", "127.0.0.1"]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.STDOUT, env=os.environ)
    try:
        until = time.monotonic() + START_S
        while time.monotonic() < until:
            with contextlib.suppress(OSError), urllib.request.urlopen(f"http://127.0.0.1:{port}/_stcore/health"):
                break
            time.sleep(0.1)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(timeout=30)


@contextlib.contextmanager
def visitor(browser: Browser, address: str, watched: Mapping[str, str] = FIRST_SIGHT) -> Iterator[Visitor]:
    """Somebody who comes for the first time; the page is complete."""
    context = browser.new_context(viewport={"width": 1440, "height": 900})
    one = Visitor(context.new_page())
    one.page.add_init_script(f"bench.watched = {json.dumps(dict(watched))}; bench.startedAt = 0")
    one.page.goto(address, wait_until="commit")
    one.settle()
    yield one
    context.close()


def _row(name: str, found: Sequence[Mapping[str, float]], **facts: Any) -> dict[str, Any]:
    """Medians of several measurements of one thing."""
    keys = [key for key in found[0] if all(key in one for one in found)]
    medians = {key: statistics.median(one[key] for one in found) for key in keys}
    return {"name": name, **facts, "median": medians, "all": [dict(one) for one in found]}


def _printed(row: Mapping[str, Any]) -> str:
    if "cold_s" in row:
        return f"{row['name']:44} cold {row['cold_s']:.2f} s, warm {row['warm_s']:.2f} s\n"
    parts = [f"{key} {value:,.0f}" for key, value in row["median"].items()]
    size = f" ({row['units']:,} tokens)" if "units" in row else ""
    return f"{row['name'] + size:44} {', '.join(parts)}\n"


if __name__ == "__main__":
    main()
