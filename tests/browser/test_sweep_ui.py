"""What a user sees of a sweep in MLflow's UI, in real Chromium; screenshots in outputs/screenshots."""

import re
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.browser.bench import (
    DATA,
    NEEDS,
    chromium,
    new_page,
    open_groups,
    open_run,
    open_tab,
    picture,
    rows,
    train,
    training,
    ui,
)

pytest.importorskip("playwright", reason="no playwright: pip install playwright")
if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

pytestmark = NEEDS
SIZE = (1400, 1000)
ARMS = [f"n_head={n}" for n in (1, 2, 4, 8, 16)]
SEEDS = 2
HEADS = [
    "-m",
    "experiment=heads",
    "seed=range(2)",
    *DATA,
    "trainer.num_steps=40",
    "hydra/launcher=basic",
    "trainer.eval_every=10",
    "trainer.eval_documents=10",
    "trainer.batch_size=2",
]


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """What `microgpt ui heads` prints, when a later run is not the sweep's."""
    outputs = tmp_path_factory.mktemp("outputs")
    train(outputs, *HEADS)
    train(outputs, *DATA, "trainer.num_steps=5")
    with ui(outputs, "heads", "--port", "0") as (address, _):
        yield address


@pytest.fixture(scope="module")
def browser() -> "Iterator[Browser]":
    with chromium() as browser:
        yield browser


@pytest.fixture
def page(address: str, browser: "Browser", request: pytest.FixtureRequest) -> "Iterator[Page]":
    """A page on the sweep's table; what its context shows last is kept as a screenshot."""
    page = new_page(browser, SIZE)
    page.goto(address)
    page.wait_for_selector(f"text={len(ARMS) * SEEDS} matching runs")
    yield page
    picture(page.context.pages[-1], "sweep_" + request.node.name.removeprefix("test_"))
    page.context.close()


def test_table(page: "Page") -> None:
    """An arm a group, in the order of their number, with the mean over seeds; opened, its runs below it."""
    closed = rows(page, "attributes.`Run Name`")
    assert [text.split("\n")[1] for text in closed] == [f"Group: {arm}" for arm in ARMS]
    open_groups(page, len(ARMS))
    page.get_by_role("link", name=f"{ARMS[0]} seed=1", exact=True).wait_for()
    texts = rows(page, "attributes.`Run Name`")
    names = [" ".join(re.sub(r"^#\w+", "", text).split()) for text in texts]  # less the colour
    heads = [f"Group: {arm} {SEEDS}" for arm in ARMS]
    assert names[:: SEEDS + 1] == heads
    for arm, start in zip(ARMS, range(1, len(names), SEEDS + 1)):
        assert sorted(names[start : start + SEEDS]) == [f"{arm} seed={seed}" for seed in (0, 1)]
    losses = [float(text.split()[0]) for text in rows(page, "metrics.`val/loss`")]
    assert all(2 < loss < 4 for loss in losses)
    for start in range(0, len(losses), SEEDS + 1):
        mean = sum(losses[start + 1 : start + 1 + SEEDS]) / SEEDS
        assert losses[start] == pytest.approx(mean)
    assert rows(page, "params.`model.n_head`")[:: SEEDS + 1] == ["1", "2", "4", "8", "16"]
    assert rows(page, "tags.`seed`")[0] == ""  # no mean of seeds
    cells = page.locator(".ag-header-cell").all()
    # As they are shown: the page holds them in whatever order they were made.
    cells.sort(key=lambda cell: cell.evaluate("cell => cell.getBoundingClientRect().x"))
    columns = [cell.get_attribute("col-id") or "" for cell in cells]
    shown = [column for column in columns if column.startswith(("params", "metrics", "tags"))]
    assert shown == [
        "metrics.`val/loss`",  # where no side panel hides it
        "params.`model.n_head`",
        "tags.`seed`",
        "metrics.`val/bpc`",
        "metrics.`cost/seconds`",
    ]


def test_charts(page: "Page") -> None:
    """Held-out loss over steps, a line an arm, and against the heads; costs last, and folded."""
    page.locator("label:has([value='CHART'])").click()
    tops = []
    for name in ("val", "train", "Model metrics", "cost"):
        section = page.get_by_text(name, exact=True)
        section.wait_for()
        box = section.bounding_box()
        assert box is not None
        tops.append(box["y"])
    assert tops == sorted(tops)
    for arm in ARMS[:2]:
        page.get_by_text(f"{arm} (val/loss)", exact=True).wait_for()
    page.get_by_text("model.n_head vs. val/loss", exact=True).wait_for()
    page.get_by_text("Step", exact=True).first.wait_for()
    page.locator(".js-plotly-plot").first.wait_for()
    assert page.get_by_text("tokens_per_sec").count() == 0
    picture(page, "sweep_charts_top")
    page.get_by_text("train", exact=True).evaluate("heading => heading.scrollIntoView()")
    page.get_by_text(f"{ARMS[0]} (train/loss)", exact=True).wait_for()


def test_child_and_parent(page: "Page") -> None:
    """From a run of the sweep to the sweep's own, which says what is varied and leads to the table."""
    open_groups(page, 1)
    open_run(page, 1)
    for text in ("val/loss", "model.n_head", "n_head", "seed", "signature", "Parent run"):
        page.get_by_text(text, exact=True).first.wait_for()
    picture(page, "sweep_child_overview")
    page.get_by_role("link", name=re.compile("^heads ")).first.click()
    page.get_by_text("Child runs", exact=True).wait_for()
    page.get_by_text("Attention heads at a fixed width of 16").wait_for()
    page.get_by_text("1, 2, 4, 8, 16").wait_for()
    page.get_by_text("Show more").click()
    page.get_by_text(re.compile(r"model\.n_embd +16")).wait_for()
    picture(page, "sweep_parent_overview")
    open_tab(page, "Artifacts")
    page.get_by_text("sweep.json", exact=True).first.wait_for()
    open_tab(page, "Overview")
    with page.context.expect_page() as opened:
        page.get_by_role("link", name="10 runs, by arm").click()
    opened.value.wait_for_selector("text=10 matching runs")
    opened.value.get_by_text("Group: n_head=16").wait_for()  # the last: now all are there
    assert "Group: n_head=1" in rows(opened.value, "attributes.`Run Name`")[0]


def test_compare(page: "Page") -> None:
    """Runs that are compared stand along the params that differ."""
    open_groups(page, len(ARMS))
    page.locator(".ag-header-cell input[type=checkbox]").first.click(force=True)
    page.get_by_role("button", name="Compare").click()
    page.get_by_text(f"Comparing {len(ARMS) * SEEDS} Runs from 1 Experiment").wait_for()
    for axis in ("model.n_head", "seed"):
        page.locator(".js-plotly-plot").get_by_text(axis, exact=True).wait_for()
    assert page.locator(".js-plotly-plot").get_by_text("model.n_embd", exact=True).count() == 0


@pytest.mark.soak
def test_a_sweep_under_way(browser: "Browser", tmp_path: Path) -> None:
    """Runs and figures come while the sweep goes on, and nobody reloads the page."""
    endless = [*DATA, "trainer.num_steps=20000", "trainer.eval_every=20", "seed=range(2)"]
    endless += ["schedule=constant", "schedule._target_=tests.schedules.Slow"]
    with training(tmp_path, "-m", "model.n_head=1,2", *endless) as process:
        assert process.stdout is not None
        told = next(line for line in process.stdout if line.startswith("look"))
        with ui(tmp_path, told.split()[-1], "--port", "0") as (address, _):
            page = new_page(browser, SIZE)
            page.goto(address)
            before = rows(page, "metrics.`val/loss`")[0]
            page.wait_for_function(
                """before => {
                    const cell = document.querySelector(".ag-row .ag-cell[col-id='metrics.`val/loss`']");
                    return cell && /^[0-9.]+/.test(cell.innerText) && cell.innerText != before;
                }""",
                arg=before,
                timeout=120_000,
            )
            picture(page, "sweep_under_way")
            page.context.close()
        process.send_signal(signal.SIGINT)
        assert process.wait(60) == 130
