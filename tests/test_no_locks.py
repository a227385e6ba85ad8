"""A file system without locks: each command works, and says so once."""

import errno
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from microgpt.run.folder import all_runs
from microgpt.run.record import FINISHED
from tests.command import PROGRAM
from tests.running import SHORT, TINY, history, recorded, store

REFUSING = """
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>
int flock(int fd, int how) {
    char link[64], path[4096] = "";
    snprintf(link, sizeof link, "/proc/self/fd/%%d", fd);
    if (readlink(link, path, sizeof path - 1) < 0 || !strstr(path, getenv("NO_LOCKS_IN")))
        return syscall(SYS_flock, fd, how);
    errno = %d;
    return -1;
}
"""
SAID = "microgpt: this file system has no locks: let one process at a time work on a run; one that was "
SAID += "killed stays `running` until it is resumed\n"


@pytest.fixture
def refusing(tmp_path: Path, request: pytest.FixtureRequest) -> str:
    """A library that takes flock's place, and has no locks on files in a folder."""
    compiler = shutil.which("cc")
    if not compiler:
        pytest.skip("no C compiler")
    library = tmp_path / "refusing.so"
    words = [compiler, "-shared", "-fPIC", "-x", "c", "-", "-o", str(library)]
    subprocess.run(words, input=REFUSING % request.param, text=True, check=True)
    return str(library)


@pytest.mark.parametrize(
    "refusing",
    [
        pytest.param(errno.ENOLCK, marks=pytest.mark.slow),
        pytest.param(errno.EOPNOTSUPP, marks=pytest.mark.soak),
    ],
    indirect=True,
)
def test_a_file_system_without_locks(refusing: str, outputs: Path) -> None:
    env = os.environ | {"LD_PRELOAD": refusing, "MICROGPT_OUTPUTS": str(outputs)}
    env["NO_LOCKS_IN"] = str(outputs)
    one = ["train", *TINY, *SHORT, "trainer.stop_after=7"]
    sweep = ["train", "-m", *TINY, *SHORT, "seed=1,2", "hydra.launcher.workers=2"]

    def said(*words: str) -> str:
        done = subprocess.run([PROGRAM, *words], env=env, capture_output=True, text=True)
        assert done.returncode == 0, done
        return done.stderr

    assert said(*one) == SAID
    (run,) = all_runs(outputs)
    assert said("train", f"resume={run.path.name}") == SAID
    assert said(*sweep) == SAID
    assert said("runs") == SAID
    for run in all_runs(outputs):
        assert run.status == FINISHED
        assert history(store(outputs), run.mlflow_run_id) == recorded(run)
