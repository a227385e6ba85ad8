"""What a user does, done by the tests: train runs, start the UI, look at it in Chromium."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

ROOT = Path(__file__).parent.parent.parent
CHROMIUM = Path("/usr/bin/chromium")
SCREENSHOTS = ROOT / "outputs" / "screenshots"
NEEDS = [
    pytest.mark.slow,
    pytest.mark.skipif(not CHROMIUM.exists(), reason=f"no {CHROMIUM}: apt-get install chromium"),
]
DATA = [  # overrides: a hundred names, to train in no time
    "data=lines",
    f"data.path={ROOT / 'tests/golden/names_tiny.txt'}",
    "data.val_fraction=0.2",
]
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
# What the UI remembers in a browser that has seen it before: its assistant, once closed, stays so.
SEEN = "localStorage.setItem('mlflow.assistant.fab.autoOpenedOnFirstLoad_v1', 'true')"


def microgpt(outputs: Path) -> tuple[list[str], dict[str, str]]:
    """The beginning of a command line, and the environment to run it in."""
    environment = {key: os.environ[key] for key in os.environ if key != "MLFLOW_TRACKING_URI"}
    environment |= {"MICROGPT_OUTPUTS": str(outputs), "PYTHONPATH": str(ROOT)}
    return [sys.executable, "-c", "from microgpt.cli import main; main()"], environment


def train(outputs: Path, *overrides: str) -> None:
    """Train, and fail with what was printed if it fails."""
    command, environment = microgpt(outputs)
    command += ["train", *overrides]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@contextmanager
def training(outputs: Path, *overrides: str) -> Iterator["subprocess.Popen[str]"]:
    """A training that goes on beside the block, and ends with it."""
    command, environment = microgpt(outputs)
    pipe = subprocess.PIPE
    process = subprocess.Popen(
        [*command, "train", *overrides], env=environment, text=True, stdout=pipe
    )
    try:
        yield process
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGINT)
            process.wait(60)
        assert process.stdout is not None
        process.stdout.close()


@contextmanager
def ui(outputs: Path, *words: str) -> Iterator[tuple[str, "subprocess.Popen[str]"]]:
    """`microgpt ui`, for the time of the block; the address it prints, and its process."""
    command, environment = microgpt(outputs)
    process = subprocess.Popen(
        [*command, "ui", *words], env=environment, text=True, stdout=subprocess.PIPE
    )
    assert process.stdout is not None
    try:
        lines = iter(process.stdout.readline, "")
        yield next(line.split()[1] for line in lines if line.startswith("open")), process
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(30)
        process.stdout.close()


@contextmanager
def chromium() -> "Iterator[Browser]":
    """Headless Chromium."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        try:
            yield browser
        finally:
            browser.close()


def new_page(browser: "Browser", size: Sequence[int] = (1400, 800)) -> "Page":
    """An empty page of a browser that has seen MLflow's UI before."""
    context = browser.new_context(viewport={"width": size[0], "height": size[1]})
    context.set_default_timeout(90_000)  # of pages that it opens, too; a busy machine may need them
    page = context.new_page()
    page.add_init_script(SEEN)
    return page


def rows(page: "Page", column: str) -> list[str]:
    """What the table shows in a column, from the first row down."""
    cells = page.locator(f".ag-row .ag-cell[col-id='{column}']")
    cells.first.wait_for()
    found = [(float(c.locator("..").get_attribute("row-index") or 0), c) for c in cells.all()]
    return [cell.inner_text() for _, cell in sorted(found, key=lambda pair: pair[0])]


def open_groups(page: "Page", count: int) -> None:
    """Show the runs of the first groups of a table, which are closed."""
    for row in reversed(range(count)):  # the last first: what is below it moves
        cell = page.locator(f".ag-row[row-index='{row}'] .ag-cell[col-id='attributes.`Run Name`']")
        cell.locator(".anticon[role='button']").first.click()


def open_run(page: "Page", row: int = 0) -> None:
    """Go to the page of the run in a row of the table, as a user does."""
    page.locator(f".ag-row[row-index='{row}'] .ag-cell[col-id='attributes.`Run Name`'] a").click()
    page.wait_for_selector("text=About this run")


def open_tab(page: "Page", name: str) -> None:
    page.get_by_role("tab", name=name, exact=True).click()


def picture(page: "Page", name: str) -> None:
    """Keep what a page shows as a screenshot."""
    page.wait_for_timeout(500)  # charts draw themselves in slowly
    SCREENSHOTS.mkdir(parents=True, exist_ok=True)
    page.screenshot(path=SCREENSHOTS / f"{name}.png")
