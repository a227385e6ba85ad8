"""Makes the README's pictures anew, in some two minutes: `python -m tests.browser.picture`."""

import tempfile
from pathlib import Path

from tests.browser.bench import ROOT, chromium, new_page, train, ui

PICTURES = ROOT / "experiments" / "pictures"
SWEEP = ["-m", "model.n_head=1,2,4,8", "optimizer.lr=0.003,0.01"]


def main() -> None:
    """Train eight runs of the default size; show their table, then their curves."""
    PICTURES.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        outputs = Path(folder)
        train(outputs, *SWEEP)
        with ui(outputs, "--port", "0") as (address, _), chromium() as browser:
            page = new_page(browser, (1400, 600))
            page.goto(address)
            page.get_by_text("8 matching runs").wait_for()
            # The hint on shared views, which has a cross to close it.
            leave = page.get_by_role("button", name="Exit shared view")
            leave.locator("xpath=following::button[1]").click()
            page.mouse.move(0, 0)
            page.wait_for_timeout(1000)
            page.screenshot(path=PICTURES / "mlflow-ui.png")
            page.set_viewport_size({"width": 1400, "height": 760})
            page.locator("label:has([value='CHART'])").click()
            page.get_by_text("val/loss", exact=True).wait_for()
            page.wait_for_timeout(3000)
            page.screenshot(path=PICTURES / "mlflow-charts.png")


if __name__ == "__main__":
    main()
