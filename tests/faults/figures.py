"""What the suite found: `figures.json`, a row for each injection, and `README.md`, written from it."""

import fcntl
import json
import os
import platform
import subprocess
import time
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
FILE = HERE / "figures.json"
PAGE = HERE / "README.md"
TOP = """# Faults

Written by the suite, as it injects all of this, the two long sweeps beside the rest:

    pytest -m soak -n 3 --dist loadfile --no-loadscope-reorder \\
        tests/faults/test_{hour,sweep_memory,kills,places,servers,crowds,sweeps,sequences,memory,generated}.py

Each row is of one test that passed; the row is deleted when its test begins, so that a test without a row
has failed, or has not been run. The slow tier of the tests has a short, seeded sample of some.

After each injection, and a resume or `microgpt sync` where one is due: every figure of every run stands in
the store once; figures, samples and parameters equal those of a run that nobody disturbed, bit for bit; no
command has printed a traceback; no process is left. **Lost: nothing, in any row.**

Rows of memory inject nothing: they say what a process and all that it has started need, in the median of
the first third and of the last third of all looks but the first fifth. The last exceeds the first by a
tenth at most, as a whole and for each process. What is called again and again in one process is looked at
after Python's collector has run.

| injected | times | what was seen | minutes | begun |
|---|---|---|---|---|
"""


def machine() -> str:
    """What this was run on."""
    models = [
        line for line in Path("/proc/cpuinfo").read_text().splitlines() if "model name" in line
    ]
    model = models[0].partition(": ")[2] if models else platform.machine()
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    cores = f"{os.cpu_count()} cores ({model}), {memory:.0f} GB"
    return f"{cores}, Linux {platform.release()}, Python {platform.python_version()}"


def commit() -> str:
    """The commit that is checked out, with a + if files of Python differ from it."""
    git = ["git", "-C", str(HERE)]
    head = subprocess.check_output([*git, "rev-parse", "--short", "HEAD"], text=True).strip()
    changed = subprocess.run([*git, "diff", "--quiet", "HEAD", "--", ":/*.py"], check=False)
    return head + "+" * changed.returncode


class Note:
    """A test's row: deleted at its beginning, written when it has passed."""

    def __init__(self, name: str) -> None:
        self.name, self.begun, self.commit = name, time.time(), commit()
        _change({name: None})

    def __call__(self, injected: str, times: int | str, seen: str) -> None:
        begun = time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(self.begun))
        minutes = round((time.time() - self.begun) / 60, 1)
        row = {"injected": injected, "times": times, "seen": seen, "minutes": minutes}
        load = f"{os.getloadavg()[1]:.1f}"
        told = {"begun": begun, "load": load, "machine": machine(), "commit": self.commit}
        _change({self.name: row | told})


def _change(rows: dict[str, Any]) -> None:
    """Replaces rows, and writes the page, while no other process does."""
    with FILE.open("a+") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        file.seek(0)
        before = json.loads(file.read() or "{}")
        now = {name: row for name, row in sorted({**before, **rows}.items()) if row}
        file.truncate(0)
        file.write(json.dumps(now, indent=1) + "\n")
        file.flush()
        PAGE.write_text(page(now))


def write_page() -> None:
    """Writes the page of the rows that are there."""
    _change({})


def page(rows: dict[str, dict[str, Any]]) -> str:
    """The README: a table, the machine, the picture of the large sweep."""
    line = "| {injected} | {times} | {seen} | {minutes} | {begun} |\n"
    table = "".join(line.format(**row) for row in rows.values())
    told = ""
    if rows:
        machines = " and ".join(sorted({row["machine"] for row in rows.values()}))
        loads = sorted(float(row["load"]) for row in rows.values())
        load = f"{loads[0]} to {loads[-1]}"
        commits = " and ".join(sorted({row["commit"] for row in rows.values()}))
        told = f"On {machines}, commit {commits}; "
        told += f"the load over 5 minutes at the ends of the tests was {load}.\n"
    return f"{TOP}{table}\n{told}{_memory()}"


def _memory() -> str:
    """About the large sweep, if it was measured."""
    file = HERE / "memory.json"
    if not file.exists():
        return ""
    found = json.loads(file.read_text())
    last = found["rows"][-1]
    grown = ", ".join(f"{kind} {value}" for kind, value in found["growth"].items())
    return (
        f"\n## A sweep of {last['jobs']:,} jobs\n\n`{found['command']}`: {found['wall seconds']} s,"
        f" commit {found['commit']}."
        f" The most memory after job 100, over what it was there: {grown}. CPU time of a job in the"
        f" second half, over the first: {found['slower']}.\n\n"
        "![Memory of the processes, and time of a job, over the jobs done](memory.png)\n"
    )


if __name__ == "__main__":
    write_page()
