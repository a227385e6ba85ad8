"""`microgpt train` as a Hydra application.

This replaces the decorator `hydra.main`, with three differences: the job's exit code is returned, wrong
input is reported in one line, and no empty folder remains. Only this file uses Hydra's internals.
"""

import logging
import os
from argparse import Namespace
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from hydra import version
from hydra._internal.callbacks import Callbacks
from hydra._internal.hydra import Hydra
from hydra._internal.utils import create_automatic_config_search_path, get_args_parser
from hydra.core.config_search_path import SearchPathQuery
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.plugins import Plugins
from hydra.core.utils import run_job
from hydra.types import HydraContext, RunMode
from omegaconf import DictConfig, OmegaConf

from microgpt.complaints import (
    UNCOMPOSED,
    composing,
    explain,
    of_a_sweep,
    refuse_sweeping,
    with_preset,
)
from microgpt.guard import guarded
from microgpt.hints import undashed
from microgpt.meanings import explained
from microgpt.resolvers import register
from microgpt.secret import kept
from microgpt.sweep import PLUGINS  # noqa: F401 - makes our sweeper and launcher known to Hydra
from microgpt.syntax import written
from microgpt.terminal import (
    OK,
    RUN_FAILED,
    ConfigError,
    Ended,
    Parser,
    add_trust,
    complain,
)

CONFIG = "train"
SWEEPING = "hydra.mode=MULTIRUN"
NAN = "debug=nan"  # of which Hydra would read the number
KEYS = "== Keys"  # in the help: what follows is the configuration
# Hydra would train in the run's folder, where relative paths mean others, and write a second config.yaml.
OURS = {"hydra.job.chdir": False, "hydra.output_subdir": None}

register()  # here, since every process of a sweep imports this file


def run_app(words: Sequence[str]) -> int:
    """Runs `microgpt train` with these arguments; returns an exit code."""
    parser, args = parsed(words)
    return guarded(lambda: run(parser, args).code, os_error=RUN_FAILED)


def run(parser: Parser, args: Namespace) -> Ended:
    """Does what parsed arguments of `microgpt train` ask for. Raises what a run raises, and ConfigError."""
    if os.environ.get("MICROGPT_OUTPUTS") == "":
        del os.environ["MICROGPT_OUTPUTS"]
    folders = [config_path(), *([Path(args.config_dir)] if args.config_dir else [])]
    try:
        with application(args) as hydra:
            ended = answer(hydra, parser, args)
    except UNCOMPOSED as error:
        many = args.multirun or any(word.startswith("hydra.mode=") for word in args.overrides)
        raise ConfigError(explain(error, args.overrides, folders, many)) from error
    if isinstance(ended, ConfigError):
        raise ConfigError(with_preset(str(ended), args.overrides)) from ended
    if isinstance(ended, Exception):
        raise ended
    return ended


class Discreet(Hydra):
    """Composes configurations without the password of the store, which Hydra would print and write.

    Its help has the meaning of every key.
    """

    folders: Sequence[Path] = ()  # of configurations

    def get_help(self, help_cfg: DictConfig, cfg: DictConfig, *args: Any, **kwargs: Any) -> str:
        """As in Hydra."""
        text = str(super().get_help(help_cfg, cfg, *args, **kwargs))
        head, mark, keys = text.partition(KEYS)
        return f"{head}{mark}{explained(keys, self._choices, self.folders)}"

    def compose_config(self, *args: Any, **kwargs: Any) -> DictConfig:
        """As in Hydra."""
        cfg = super().compose_config(*args, **kwargs)
        self._choices: Any = OmegaConf.to_container(cfg.hydra.runtime.choices)
        tracking = cfg.get("tracking")
        given = OmegaConf.to_container(tracking) if isinstance(tracking, DictConfig) else None
        uri = given.get("uri") if isinstance(given, dict) else None
        if isinstance(uri, str) and kept(uri) != uri:
            OmegaConf.update(cfg, "tracking.uri", kept(uri))
        return cfg


def config_path() -> Path:
    """The folder of configurations: in the package if installed, beside it in a checkout."""
    package = Path(__file__).parent
    packed = package / "_conf"
    return packed if packed.is_dir() else package.parent / "conf"


def flags() -> Parser:
    """The parser of Hydra's flags and ours."""
    parser = Parser("microgpt train", add_help=False, parents=[get_args_parser()])
    add_trust(parser, config_dir=False)  # Hydra has that
    return parser


def parsed(words: Sequence[str]) -> tuple[Parser, Namespace]:
    """Parses Hydra's flags and the overrides, in any order. Exits with 2 for an invalid combination."""
    parser = flags()
    args, unknown = parser.parse_known_intermixed_args(words)
    if unknown:
        parser.error(f"unrecognized arguments: {' '.join(unknown)}{undashed(unknown[0])}")
    args.overrides = ['debug="nan"' if word == NAN else word for word in args.overrides]
    if args.trust and not any(word.startswith("resume=") for word in args.overrides):
        parser.error("--trust: is for a run that is resumed, with resume=RUN")
    modes = ["--run", "--multirun", "--cfg", "--info", "--shell-completion"]
    given = [flag for flag in modes if getattr(args, flag[2:].replace("-", "_"))]
    if len(given) > 1:
        parser.error(f"{' and '.join(given)}: only one of them can be given")
    if args.resolve and not (args.cfg or args.help):
        parser.error("--resolve: needs --cfg or --help")
    if args.experimental_rerun is not None:
        parser.error("--experimental-rerun: is not supported; use resume=RUN")
    if args.config_dir is not None and not Path(args.config_dir).is_dir():
        parser.error(f"--config-dir {args.config_dir}: no such folder")
    return parser, args


@contextmanager
def application(args: Namespace) -> Iterator[Hydra]:
    """Initialises Hydra with our configurations and those of `--config-dir`."""
    version.setbase("1.3")
    folder = args.config_path or str(config_path())
    search_path = create_automatic_config_search_path(None, __name__, folder)
    if args.config_dir is not None:
        place = f"file://{Path(args.config_dir).absolute()}"
        search_path.prepend("command-line", place, SearchPathQuery(provider="schema"))
    present = GlobalHydra.instance()
    outer, present.hydra = present.hydra, None  # of an application that trains by `microgpt.train`
    try:
        hydra: Any = Discreet.create_main_hydra2(CONFIG, search_path)
        hydra.folders = [Path(folder), *([Path(args.config_dir)] if args.config_dir else [])]
        yield hydra
    finally:
        present.hydra = outer


def answer(hydra: Hydra, parser: Parser, args: Namespace) -> Ended | Exception:
    """Executes the action that the flags select. Returns how it ended, or what a run raised."""
    name, words = args.config_name or CONFIG, list(args.overrides)
    if args.shell_completion:
        return _complete(hydra, name, words)
    with composing():
        if args.help:
            hydra.app_help(name, parser, args)
            return Ended(OK)
        if args.hydra_help:
            hydra.hydra_help(name, parser, args)
            return Ended(OK)
        if args.cfg:
            hydra.show_cfg(name, words, args.cfg, args.package, args.resolve)
            return Ended(OK)
        # It takes a while: what can serve for the run, or the sweep, is not composed again.
        many = args.multirun and not args.info
        one = not many and not args.info and not any({",", "("} & {*word} for word in words)
        cfg = hydra.compose_config(
            name,
            [*words, SWEEPING] if many else words,
            RunMode.RUN if one else RunMode.MULTIRUN,
            with_log_configuration=many or one,
            validate_sweep_overrides=many,
        )
        if args.info:
            logging.raiseExceptions = False  # Hydra logs it, also to an output that is closed
            hydra.show_info(args.info, name, words)
            return Ended(OK)
        for key, must in OURS.items():
            if (value := OmegaConf.select(cfg, key)) != must:
                raise ConfigError(f"{key}={written(value)}: must be {written(must)}")
        many_jobs = many or OmegaConf.select(cfg, "hydra.mode") == RunMode.MULTIRUN
    if many_jobs:
        return _run_many(hydra, name, cfg if many else _sweeping(hydra, name, words))
    return _run_one(hydra, name, args, cfg if one else None)


def _sweeping(hydra: Hydra, name: str, words: list[str]) -> DictConfig:
    """The configuration of a sweep that no flag asks for, but a configuration."""
    with composing():
        return hydra.compose_config(
            name, [*words, SWEEPING], RunMode.MULTIRUN, with_log_configuration=True
        )


def _complete(hydra: Hydra, name: str, words: list[str]) -> Ended:
    """Installs tab completion, or completes a line. Raises ConfigError."""
    try:
        with composing():
            hydra.shell_completion(name, words)
    except UNCOMPOSED as error:  # no such shell, or no such subcommand
        raise ConfigError(f"--shell-completion: {error}") from error
    return Ended(OK)


def _run_one(
    hydra: Hydra, name: str, args: Namespace, composed: DictConfig | None
) -> Ended | Exception:
    """Like `Hydra.run`, but removes the folder if no run came about; returns what the job does."""
    with composing():
        cfg = composed or hydra.compose_config(
            name, list(args.overrides), RunMode.RUN, with_log_configuration=True
        )
        cfg.hydra.mode = RunMode.RUN
        refuse_sweeping(args.overrides)
        callbacks = Callbacks(cfg)
        callbacks.on_run_start(config=cfg, config_name=name)
        folder = Path(cfg.hydra.run.dir)
        from microgpt.run.unborn import folder_for_a_run, sweep_up  # late: `--help` must not wait

        sweep_up(Path(str(OmegaConf.select(cfg, "paths.outputs"))))
        context = HydraContext(config_loader=hydra.config_loader, callbacks=callbacks)
        task = partial(job, trusted=(args.trust, args.config_dir))
        with folder_for_a_run(folder):  # what this raises is Hydra's: `job` returns what it raised
            done = run_job(task, cfg, "hydra.run.dir", None, context)
        callbacks.on_run_end(config=cfg, config_name=name, job_return=done)
    ended: Ended | Exception = done.return_value
    return ended


def _run_many(hydra: Hydra, name: str, cfg: DictConfig) -> Ended:
    """`Hydra.multirun`, also with another sweeper than ours."""
    from microgpt.build import check_keys, part, plain  # late: `--help` must not wait for it

    with composing():
        own = plain(OmegaConf.masked_copy(cfg, [str(key) for key in cfg if key != "hydra"]))
        check_keys(own)
        OmegaConf.select(cfg, "hydra.sweep.dir")  # refuses outputs that can hold no runs
        part(own, "tracking").prepare()
        callbacks = Callbacks(cfg)
        callbacks.on_multirun_start(config=cfg, config_name=name)
        context = HydraContext(config_loader=hydra.config_loader, callbacks=callbacks)
        sweeper = Plugins.instance().instantiate_sweeper(
            config=cfg, hydra_context=context, task_function=job
        )
        overrides: Any = OmegaConf.to_container(cfg.hydra.overrides.task, resolve=False)
    ended = sweeper.sweep(overrides)
    callbacks.on_multirun_end(config=cfg, config_name=name)
    return ended if isinstance(ended, Ended) else Ended(OK)


def job(
    cfg: DictConfig, trusted: tuple[Sequence[str], str | None] = ((), None)
) -> Ended | Exception | float | None:
    """Hydra's task function: trains one run. Returns how it ended, or what it raised.

    In a sweep it returns the run's exit code, None if the sweep interrupted it; in one of another
    sweeper than ours the last validation loss.

    trusted  the arguments of `trust_of`, for a run that is resumed
    """
    context = HydraConfig.get()
    folder = Path(context.runtime.output_dir)
    overrides: Any = OmegaConf.to_container(context.overrides.task, resolve=False)
    if context.mode == RunMode.MULTIRUN:
        from microgpt.sweep.job import asked, work

        return asked(cfg, folder, overrides) if cfg.sweep is None else work(cfg, folder)
    # Imported here, since `--help` does not need them.
    from microgpt.run.folder import RunFolder
    from microgpt.train import train
    from microgpt.trust import OURS_ALONE, trust_of

    try:
        trust = OURS_ALONE if cfg.resume is None else trust_of(*trusted)
        return train(cfg, folder, overrides, trust, of_a_sweep(context.sweeper, cfg.experiment))
    except BrokenPipeError:
        complain("the run has failed: its output was closed")
        return Ended(RUN_FAILED, RunFolder(folder))
    except Exception as error:  # that left the task function, would be printed by Hydra
        return error
