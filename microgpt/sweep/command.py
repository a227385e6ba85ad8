"""`microgpt train -m`, from Hydra's words to a sweep."""

from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from microgpt.build import built, documents_of, part
from microgpt.datasets.checks import remarks
from microgpt.protocol.section import question
from microgpt.protocol.stopping import FIXED, begins
from microgpt.run.record import Busy
from microgpt.signals import Interrupted
from microgpt.sweep.asked import asked_of
from microgpt.sweep.conduct import conduct
from microgpt.sweep.expand import varied
from microgpt.sweep.job import Assignment
from microgpt.sweep.known import given, known_here
from microgpt.sweep.plan import Job
from microgpt.sweep.planned import plan_of
from microgpt.sweep.sequence import Rounds, at_once, until_decided
from microgpt.syntax import quoted
from microgpt.terminal import INTERRUPTED, ConfigError, Ended, carried, complain
from microgpt.train import check_split

NAME = 200  # characters of a sweep's name at most


def sweep(sweeper: Any, arguments: Sequence[str]) -> Ended:
    """Train all jobs of a sweep. Raises ConfigError, and what Hydra raises."""
    plan = plan_of(sweeper, sweeper.hydra_context.config_loader, sweeper.config, arguments)
    jobs, config, constant = plan.jobs, plan.config, plan.constant
    if config["resume"] is not None:
        raise ConfigError(f"resume={config['resume']}: goes on with one run, without -m")
    check(jobs)
    asked = asked_of(plan.section, jobs, config)
    for line in dict.fromkeys(remarks_on(jobs)):
        complain(line)
    identity, rounds = course(plan.section, jobs)
    outputs = config["paths"]["outputs"] = str(Path(config["paths"]["outputs"]).absolute())
    facts = {
        "experiment": config["experiment"],
        "name": " ".join(filter(None, [config["experiment"], varied(plan.grid)]))[:NAME]
        or "default",
        "description": config["description"],
        "overrides": list(arguments),
        "config_dir": next(iter(carried()[1:]), None),
        "grid": plan.grid,
        "ablation": plan.section,
        "asked": asked,
        "config": config,
    }

    launcher = sweeper.launcher
    is_ours = hasattr(launcher, "assign")

    def launch(sweep_id: str, todo: Sequence[Job]) -> int | None:
        known = known_here(sweep_id, config)
        shared = [*constant, *(f"{key}={quoted(value)}" for key, value in known.items())]
        shared += [f"hydra.sweep.dir={quoted(outputs)}"]
        rows = [
            [*shared, *job.overrides, f"hydra.sweep.subdir={quoted(f'runs/{job.run}')}"]
            for job in todo
        ]
        if is_ours:
            launcher.assign(
                [Assignment(sweep_id, job.facts, given(job.config, known)) for job in todo]
            )
        try:
            done = launcher.launch(rows, initial_job_idx=0) if rows else []
        except KeyboardInterrupt as error:
            return 128 + error.number if isinstance(error, Interrupted) else INTERRUPTED
        if all(job.return_value is not None for job in done):
            return None
        signals = launcher.signals if is_ours else []
        return 128 + signals[0] if signals else INTERRUPTED

    try:
        prepare = getattr(launcher, "prepare", None)
        return conduct(facts, identity, rounds, config["skip"], prepare, launch)
    except Busy as error:
        raise ConfigError(f"this sweep is under way: {error}") from error
    finally:
        if is_ours:
            launcher.release()


def course(section: Any, jobs: Sequence[Job]) -> tuple[dict[str, str], Rounds]:
    """The identity of a sweep, and its rounds, by its `ablation` section if it has one."""
    stopping, facts = FIXED, [job.facts for job in jobs]
    rounds = at_once(jobs)
    if section is not None and (asked := question(section)).stopping != FIXED:
        stopping, rounds = asked.stopping, until_decided(asked, jobs)
    return begins(stopping, facts), rounds


def check(jobs: Sequence[Job]) -> None:
    """Raises ConfigError if not one job can be built: then the command is wrong, and not a combination."""
    problems = []
    for job in jobs:
        try:
            check_split(built(job.config))
        except ConfigError as error:
            problems.append(error)
        except Exception:  # the job itself will tell
            return
        else:
            return
    raise problems[0]


def remarks_on(jobs: Sequence[Job]) -> list[str]:
    """What a user may not expect of the data of the jobs, a line each."""
    lines: list[str] = []
    sizes = {(job.data, job.config["model"].get("block_size")): job.config for job in jobs}
    for (_, block_size), config in sizes.items():
        with suppress(ConfigError):  # the job itself will tell
            source = part(config, "data")
            lines += remarks(source, documents_of(config, source), block_size)
    return lines
