"""`microgpt train` as a Hydra application, whose complaints are one line each."""

import argparse
import os
import sys
import traceback
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any
from unittest.mock import patch
from uuid import uuid4

import hydra
import yaml
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

import microgpt.sweep  # noqa: F401 - where Hydra finds our sweeper and launcher
from microgpt.complaints import config_line, explain, one_line, say, written

OK, RUN_FAILED, WRONG_INPUT, INTERRUPTED = 0, 1, 2, 130
TAKES_A_WORD = {
    *("--config-dir", "-cd", "--config-name", "-cn", "--config-path", "-cp"),
    *("--cfg", "-c", "--package", "-p", "--experimental-rerun", "--info", "-i"),
}
codes: list[int] = []  # the exit code of the run
places: set[Path] = set()  # where this process writes


def run_app(words: Sequence[str]) -> int:
    """Hydra on a command line without `microgpt train`; returns an exit code."""
    # Hydra prints what it catches at length; with this it lets us say it in a line.
    os.environ["HYDRA_FULL_ERROR"] = "1"
    if os.environ.get("MICROGPT_OUTPUTS") == "":
        del os.environ["MICROGPT_OUTPUTS"]
    flags, overrides = flags_first(words)
    codes.clear()
    places.clear()
    own_configs = _own_configs(flags)
    for folder in own_configs:
        if not folder.is_dir():
            say(f"--config-dir {folder}: no such folder")
            return WRONG_INPUT
    sys.argv[1:] = [*flags, *overrides]
    application = hydra.main(str(config_path()), "train", "1.3")(job)
    try:
        with patch.object(argparse.ArgumentParser, "error", _refuse):
            application()
    except (HydraException, OmegaConfBaseException, ValueError, yaml.YAMLError) as error:
        say(explain(error, overrides, [config_path(), *own_configs]))
        return WRONG_INPUT
    except BrokenPipeError:  # the command line knows what to do
        raise
    except OSError as error:  # those of a job have been told: this is a folder that Hydra makes
        say(f"{error.filename}: {error.strerror}; runs are written below paths.outputs")
        return WRONG_INPUT
    except KeyboardInterrupt:
        return INTERRUPTED
    finally:
        _remove_traces()
    return max(codes, default=OK)


def config_path() -> Path:
    """The configurations: in the package of a wheel, beside the package in a checkout."""
    package = Path(__file__).parent
    packed = package / "_conf"
    return packed if packed.is_dir() else package.parent / "conf"


def flags_first(words: Sequence[str]) -> tuple[list[str], list[str]]:
    """Flags with their words, and overrides: argparse cannot have them mixed, people can."""
    flags: list[str] = []
    overrides: list[str] = []
    for word in words:
        if word.startswith("-") or (flags and flags[-1] in TAKES_A_WORD and "=" not in word):
            flags.append(word)
        else:
            overrides.append(word)
    return flags, overrides


def job(cfg: DictConfig) -> int | None:
    """One run; returns its exit code, since Hydra would print a traceback of what is raised."""
    context = HydraConfig.get()
    folder = Path(context.runtime.output_dir)
    if context.mode == RunMode.MULTIRUN:
        from microgpt.sweep.job import work

        return work(cfg, folder)
    overrides: Any = OmegaConf.to_container(context.overrides.task, resolve=False)
    try:
        code = _train(cfg, folder, overrides)
    finally:
        _remove_empty(folder)
    codes.append(code)
    return code


def _train(cfg: DictConfig, folder: Path, overrides: list[str]) -> int:
    """Train; what goes wrong is told here, in a line unless it is a fault of the program."""
    from microgpt.build import ConfigError  # late: `--help` must not wait for it
    from microgpt.run.folder import NoSuchRun
    from microgpt.run.record import Busy
    from microgpt.train import train

    try:
        return train(cfg, folder, overrides)
    except NoSuchRun as error:
        say(f"resume={error}")
    except (ConfigError, Busy) as error:
        say(f"{error}")
    except OmegaConfBaseException as error:
        say(f"{config_line(error)}")
    except OSError as error:
        say(f"{one_line(error)}")
        return RUN_FAILED
    except Exception:
        traceback.print_exc()
        return RUN_FAILED
    return WRONG_INPUT


def _outputs(folder: Any) -> str:
    """`paths.outputs`, which must be a folder or a place where one can be made."""
    if not isinstance(folder, str) or not folder:
        raise ValueError(f"paths.outputs={written(folder)}: must name a folder")
    there = Path(folder).absolute()
    while not os.path.lexists(there):
        there = there.parent
    if not there.is_dir() or not os.access(there, os.W_OK):
        problem = "cannot be written to" if there.is_dir() else "is no folder"
        raise ValueError(
            f"paths.outputs={folder}: must be a folder to write to, but {there} {problem}"
        )
    places.add(Path(folder))
    return folder


def _own_configs(flags: Sequence[str]) -> list[Path]:
    """The folder that `--config-dir` names, if any."""
    places = [i for i, flag in enumerate(flags) if flag in ("--config-dir", "-cd")]
    named = [flags[i + 1] for i in places if i + 1 < len(flags)]
    named += [flag.partition("=")[2] for flag in flags if flag.startswith("--config-dir=")]
    return [Path(name) for name in named]


def _refuse(parser: argparse.ArgumentParser, message: str) -> None:
    say(f"{message} (microgpt train --help says what there is)")
    sys.exit(WRONG_INPUT)


def _remove_empty(folder: Path) -> None:
    """Hydra makes a folder for every job, also for one that is refused or goes on elsewhere."""
    if not (folder / "run.json").exists():
        with suppress(OSError):  # a folder that was there before, with something in it
            (folder / ".lock").unlink(missing_ok=True)
            folder.rmdir()


def _remove_traces() -> None:
    """No empty folder of runs or sweeps stays."""
    for place in places:
        for folder in (place / "runs", place / "sweeps"):
            with suppress(OSError):  # not there, or not empty
                folder.rmdir()


# Here, since every process of a sweep needs them, and imports this file for its jobs.
OmegaConf.register_new_resolver("token", lambda: uuid4().hex[:6], use_cache=True, replace=True)
OmegaConf.register_new_resolver("below", _outputs, replace=True)
