"""`microgpt inspect`: writes the page of runs, and adds it to their runs in the store."""

import re
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

from microgpt.ablation.inspect.look import look
from microgpt.ablation.inspect.page import page
from microgpt.ablation.records.record import folder_of
from microgpt.console import out
from microgpt.run.checkpoint import write_whole
from microgpt.run.folder import RunFolder
from microgpt.terminal import complain
from microgpt.tracking import database_file, open_store, store_uri, told
from microgpt.trust import Trust

PLACE = "inspect"  # in the outputs, and among the artifacts of a run
UNFIT = re.compile(r"[^\w.-]")  # for the name of a file: a store may have said what a run is called


def inspect(
    references: Sequence[str],
    prompt: str | None,
    seed: int,
    uri: str | None,
    outputs: Path,
    trust: Trust,
) -> Path:
    """Writes the page of one run, or of several side by side; returns its file.

    Raises NoSuchRun, BadValue, BadRecord and ConfigError before anything is written.
    """
    with ExitStack() as opened:
        runs = [opened.enter_context(folder_of(name, uri, outputs)) for name in references]
        looks = [look(run, prompt, seed, trust) for run in runs]
        name = UNFIT.sub("-", "-and-".join(each.run for each in looks))
        file = outputs / PLACE / f"{name}.html"
        file.parent.mkdir(parents=True, exist_ok=True)
        write_whole(file, page(looks).encode())
        for run in runs:
            _log(run, file, uri, outputs)
    out.print(f"open   {file}", markup=False)
    return file


def _log(run: RunFolder, file: Path, uri: str | None, outputs: Path) -> None:
    """Adds the page to the artifacts of a run that is in a store."""
    if not run.mlflow_run_id:
        return
    store = store_uri(uri or run.config["tracking"].get("uri"), outputs)
    database = database_file(store)
    if database is not None and not database.is_file():
        return
    try:
        open_store(store, outputs).log_artifact(run.mlflow_run_id, str(file), PLACE)
    except Exception as error:  # each kind of store has its own exceptions
        complain(f"the page is not on the run in MLflow ({told(store, error)})")
