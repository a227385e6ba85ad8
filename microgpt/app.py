"""`microgpt train` as a Hydra application, whose complaints are one line each."""

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from uuid import uuid4

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from microgpt.build import ConfigError
from microgpt.console import complain
from microgpt.run.folder import BusyRun, NoSuchRun
from microgpt.train import OK, WRONG_INPUT, train

codes: list[int] = []  # the exit code of each job


def run_app(words: Sequence[str]) -> int:
    """Hydra on a command line without `microgpt train`; returns an exit code."""
    # Hydra prints what it catches at length; with this it lets us say it in a line.
    os.environ["HYDRA_FULL_ERROR"] = "1"
    OmegaConf.register_new_resolver("token", lambda: uuid4().hex[:6], use_cache=True, replace=True)
    sys.argv[1:] = words
    argparse.ArgumentParser.error = _refuse  # type: ignore[method-assign, assignment]
    application = hydra.main(str(config_path()), "train", "1.3")(job)
    try:
        application()
    except (HydraException, OmegaConfBaseException, ConfigError, ValueError) as error:
        complain(first_line(error))
        return WRONG_INPUT
    return max(codes, default=OK)


def config_path() -> Path:
    """The configurations: in the package of a wheel, beside the package in a checkout."""
    package = Path(__file__).parent
    packed = package / "_conf"
    return packed if packed.is_dir() else package.parent / "conf"


def job(cfg: DictConfig) -> None:
    """One run. Its exit code is kept, since Hydra would print a traceback of what is raised."""
    context = HydraConfig.get()
    folder = Path(context.runtime.output_dir)
    try:
        code = train(cfg, folder, list(context.overrides.task))
    except (ConfigError, NoSuchRun, BusyRun) as error:
        complain(str(error))
        code = WRONG_INPUT
    finally:
        _remove_empty(folder)
    codes.append(code)
    if code > 128:  # interrupted: the jobs after this one must not begin
        sys.exit(code)


def first_line(error: BaseException) -> str:
    """What was wrong, without Hydra's advice for programmers."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0] if lines else type(error).__name__


def _refuse(parser: argparse.ArgumentParser, message: str) -> None:
    complain(f"{message} (microgpt train --help says what there is)")
    sys.exit(WRONG_INPUT)


def _remove_empty(folder: Path) -> None:
    """Hydra makes a folder for every job, also for one that is refused or goes on elsewhere."""
    lock = folder / ".lock"
    if not (folder / "run.json").exists():
        lock.unlink(missing_ok=True)
        folder.rmdir()
