"""What a user sees of the runs in MLflow's UI, in real Chromium; screenshots in outputs/screenshots."""

import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.browser.bench import (
    DATA,
    NEEDS,
    chromium,
    new_page,
    open_run,
    open_tab,
    picture,
    rows,
    train,
    ui,
)

pytest.importorskip("playwright", reason="no playwright: pip install playwright")
if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

pytestmark = NEEDS
TINY = [
    *DATA,
    "hydra/launcher=basic",
    "model.n_embd=8",
    "trainer.num_steps=20",
    "trainer.log_every=5",
    "trainer.eval_every=10",
]


@pytest.fixture(scope="module")
def outputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store of four runs."""
    outputs = tmp_path_factory.mktemp("outputs")
    train(outputs, "-m", "model.n_head=1,4", "optimizer.lr=0.01,0.03", *TINY)
    return outputs


@pytest.fixture(scope="module")
def address(outputs: Path) -> Iterator[str]:
    """What `microgpt ui` prints."""
    with ui(outputs, "--port", "0") as (address, _):
        yield address


@pytest.fixture(scope="module")
def browser() -> "Iterator[Browser]":
    with chromium() as browser:
        yield browser


@pytest.fixture
def page(address: str, browser: "Browser", request: pytest.FixtureRequest) -> "Iterator[Page]":
    """A page on the runs table; what it shows at the end is kept as a screenshot."""
    page = new_page(browser)
    page.goto(address)
    page.wait_for_selector("text=4 matching runs")
    yield page
    picture(page, request.node.name.removeprefix("test_"))
    page.context.close()


def test_runs(page: "Page") -> None:
    """The table names the runs, with the params that differ, the best held-out loss first."""
    names = rows(page, "attributes.`Run Name`")
    assert len(names) == 4
    assert all("n_head=" in name and "lr=" in name for name in names)
    assert sorted(rows(page, "params.`model.n_head`")) == ["1", "1", "4", "4"]
    assert sorted(rows(page, "params.`optimizer.lr`")) == ["0.01", "0.01", "0.03", "0.03"]
    losses = [float(text.rstrip("…")) for text in rows(page, "metrics.`val/loss`")]
    assert losses == sorted(losses)
    assert all(2 < loss < 4 for loss in losses)
    headers = [cell.get_attribute("col-id") for cell in page.locator(".ag-header-cell").all()]
    assert "params.`model.n_embd`" not in headers
    assert {"metrics.`val/bpc`", "metrics.`cost/seconds`"} <= set(headers)


def test_charts(page: "Page") -> None:
    """The charts stand in sections, what was learnt before what it cost; their axis is the step."""
    page.locator("label:has([value='CHART'])").click()
    tops = []
    for name in ("val", "train", "cost"):
        section = page.get_by_text(name, exact=True)
        section.wait_for()
        box = section.bounding_box()
        assert box is not None
        tops.append(box["y"])
    assert tops == sorted(tops)
    page.get_by_text("val/loss", exact=True).first.wait_for()
    page.get_by_text("Step", exact=True).first.wait_for()


def test_run(page: "Page") -> None:
    """A run's page: its figures, its params and tags; its curves; its folder, with the samples."""
    open_run(page)
    for text in ("val/loss", "val/bpc", "train/loss", "model.n_head", "signature", "data.digest"):
        page.get_by_text(text, exact=False).first.wait_for()
    page.wait_for_selector("text=Finished")
    page.wait_for_selector("text=names_tiny (")  # the data set, with its digest
    picture(page, "run_overview")
    open_tab(page, "Model metrics")
    for section in ("train", "val", "cost"):
        page.get_by_text(section, exact=True).wait_for()
    curve = page.get_by_text("loss", exact=True).last  # of val
    curve.evaluate("heading => heading.scrollIntoView()")
    page.locator(".js-plotly-plot").last.wait_for()
    picture(page, "run_curves")
    open_tab(page, "Artifacts")
    for name in ("config.yaml", "metrics.jsonl"):
        page.get_by_text(name, exact=True).first.wait_for()
    page.get_by_text("checkpoints", exact=True).first.click()
    page.get_by_text(re.compile(r"^(checkpoints/)?step-20\.safetensors$")).first.wait_for()
    page.get_by_text("samples.txt", exact=True).first.click()
    preview = page.locator("pre, code, .text-area-border-box").last
    preview.wait_for()
    assert len(preview.inner_text().split()) > 5


def test_ctrl_c_ends_it_with_all_it_started(outputs: Path, address: str, tmp_path: Path) -> None:
    """A port in use is passed over; Ctrl-C ends command and server, and nothing lives on."""
    port = address.split(":")[2].split("/")[0]
    other = Path(shutil.copytree(outputs, tmp_path / "outputs"))  # whose server is another one
    with ui(other, "--port", port) as (own, process):
        assert f":{port}/" not in own
        family = children(process.pid)
        assert family
    assert process.returncode == 0
    assert [pid for pid in family if Path(f"/proc/{pid}").exists()] == []


def children(pid: int) -> list[int]:
    """The processes that a process started, and those that they started."""
    task = Path(f"/proc/{pid}/task/{pid}/children")
    if not task.exists():
        pytest.skip(f"no {task} on this system")
    own = [int(word) for word in task.read_text().split()]
    return own + [below for child in own for below in children(child)]
