"""Ctrl-C in the midst of a sweep: what runs is kept, nothing stays behind, and it goes on."""

import os
import signal
from collections.abc import Callable
from pathlib import Path

import pexpect
import pytest

from microgpt.run.record import STOPPED
from tests.running import wait_until
from tests.sweeping import (
    HELD,
    TWO,
    all_figures,
    begin,
    command,
    ended,
    environment,
    family,
    gate,
    nothing_is_left_of,
    only_sweep,
    processes,
    runs,
    statuses,
    sweep,
    under_way,
)

WORDS = (*HELD, "trainer.num_steps=60", "seed=range(3)")
GO_ON = "stopped; go on with the same command: microgpt train -m "


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, object]:
    """The figures of the sweep that nobody interrupted."""
    outputs = tmp_path_factory.mktemp("undisturbed")
    sweep(outputs, *WORDS, "tracking=none", "hydra/launcher=basic")
    return all_figures(outputs)


def check_stopped(outputs: Path, jobs: int) -> None:
    """So many jobs have stopped, with a checkpoint of where they were; the others did not begin."""
    begun = runs(outputs)
    assert len(begun) == jobs
    for run in begun.values():
        assert run.status == STOPPED
        kept = run.last_checkpoint()
        assert kept is not None
        assert kept.step >= 20
    parent, children = family(outputs)
    assert statuses(children) == dict.fromkeys(begun, "KILLED")
    assert parent.info.status == "KILLED"
    assert only_sweep(outputs).status == STOPPED


def go_on(outputs: Path, undisturbed: dict[str, object], *words: str) -> str:
    """The same command, undisturbed; what it says."""
    gate(outputs).unlink()
    said, complained = sweep(outputs, *WORDS, *words)
    assert complained == ""
    assert all_figures(outputs) == undisturbed
    parent, children = family(outputs)
    assert statuses(children) == {f"seed={seed}": "FINISHED" for seed in range(3)}
    assert parent.info.status == "FINISHED"
    return said


def test_ctrl_c_at_a_terminal_and_what_it_shows(
    outputs: Path, undisturbed: dict[str, object]
) -> None:
    """A terminal sends the signal to all processes of the sweep, and shows a live table."""
    gate(outputs).touch()
    program, *words = command(*WORDS, TWO)
    terminal = pexpect.spawn(
        program,
        words,
        env=environment(outputs),
        dimensions=(40, 200),
        timeout=100,
        encoding="utf-8",
    )
    terminal.expect(r"sweep  \w{12}-\w{8}  3 jobs: 3 new")
    terminal.expect(r"0 / 3 .*0 finished, 2 running, 1 waiting")
    terminal.expect(r"seed=0 .* 2\d / 60 .* 3\.\d{4}")
    wait_until(lambda: len(under_way(outputs, 20)) == 2)
    terminal.sendintr()
    terminal.expect("stopping after the steps under way; once more Ctrl-C ends at once")
    terminal.expect("3 jobs: 3 not finished")
    terminal.expect_exact(GO_ON)
    terminal.expect(pexpect.EOF)
    terminal.wait()
    assert terminal.exitstatus == 130
    wait_until(lambda: not processes(terminal.pid))
    check_stopped(outputs, 2)
    said = go_on(outputs, undisturbed, TWO)
    assert "3 jobs: 1 new, 2 begun before, going on\n" in said
    assert "\n3 jobs: 3 finished\n" in said


@pytest.mark.parametrize(
    ("words", "number", "send", "jobs"),
    [
        pytest.param(
            *([TWO], signal.SIGTERM, os.kill, 2), id="the launcher alone", marks=pytest.mark.slow
        ),
        pytest.param(["hydra/launcher=basic"], signal.SIGINT, os.killpg, 1, id="without workers"),
    ],
)
def test_interrupted_and_begun_again(
    outputs: Path,
    undisturbed: dict[str, object],
    words: list[str],
    number: signal.Signals,
    send: Callable[[int, int], None],
    jobs: int,
) -> None:
    gate(outputs).touch()
    process = begin(outputs, *WORDS, *words)
    wait_until(lambda: len(under_way(outputs, 20)) == jobs)
    send(process.pid, number)
    said, complained = ended(process, 130)
    assert complained == ""
    assert f"\n{GO_ON}" in said
    nothing_is_left_of(process)
    check_stopped(outputs, jobs)
    go_on(outputs, undisturbed, *words)


@pytest.mark.slow
def test_a_second_ctrl_c_ends_at_once(outputs: Path) -> None:
    """Where a step takes longer than one would wait."""
    gate(outputs).touch()
    stuck = "schedule._target_=tests.schedules.Stuck"
    process = begin(outputs, *WORDS, stuck, TWO)
    wait_until(lambda: len(under_way(outputs, 20)) == 2)
    os.killpg(process.pid, signal.SIGINT)
    assert process.stdout is not None
    assert "stopping after the steps under way; once more Ctrl-C ends at once\n" in process.stdout
    os.killpg(process.pid, signal.SIGINT)
    said, _ = ended(process, 130)
    assert f"\n{GO_ON}" in said
    nothing_is_left_of(process)
    assert only_sweep(outputs).status == STOPPED
    assert set(statuses(family(outputs)[1]).values()) <= {"FAILED", "KILLED"}
