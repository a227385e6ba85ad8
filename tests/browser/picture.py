"""Makes the README's pictures anew, in some minutes: `python -m tests.browser.picture`."""

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from tests.browser.bench import ROOT, chromium, new_page, train, ui

if TYPE_CHECKING:
    from playwright.sync_api import Page

PICTURES = ROOT / "experiments" / "pictures"
SWEEP = ["-m", "experiment=heads", "seed=range(2)", "trainer.num_steps=400"]
SWEEP += ["trainer.eval_every=50", "trainer.eval_documents=500"]
WIDTH = 1240  # in pixels: to be read where it is shown at 900


def main() -> None:
    """Train the experiment on heads, shortened; show its table, then its curves."""
    PICTURES.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        outputs = Path(folder)
        train(outputs, *SWEEP)
        with ui(outputs, "--port", "0") as (address, _), chromium() as browser:
            page = new_page(browser, (WIDTH, 830))
            page.goto(address)
            page.get_by_text("10 matching runs").wait_for()
            tidy(page)
            page.screenshot(path=PICTURES / "mlflow-ui.png")
            page.set_viewport_size({"width": WIDTH, "height": 690})
            page.locator("label:has([value='CHART'])").click()
            page.get_by_text("model.n_head vs. val/loss").wait_for()
            page.mouse.move(0, 0)
            page.wait_for_timeout(5000)
            page.screenshot(path=PICTURES / "mlflow-charts.png")


def tidy(page: "Page") -> None:
    """Close the hint on shared views by its cross, and fold the side bar."""
    leave = page.get_by_role("button", name="Exit shared view")
    leave.locator("xpath=following::button[1]").click()
    page.locator("button", has=page.locator("svg")).first.click()
    page.mouse.move(0, 0)
    page.wait_for_timeout(1000)


if __name__ == "__main__":
    main()
