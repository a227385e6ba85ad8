"""Whole commands: seconds of wall time and peak memory."""

import subprocess
import sys
from pathlib import Path

ONE = ["trainer.num_steps=1", "trainer.eval_documents=0", "sampling.num_samples=0"]
COMMANDS = {
    "microgpt train --help": ["train", "--help"],
    "one step, untracked": ["train", *ONE, "tracking=none"],
    "one step, tracked": ["train", *ONE],
    "default run, untracked": ["train", "tracking=none"],
    "default run, tracked": ["train"],
    "microgpt sync": ["sync"],
    "default run, untracked, engine=vector": ["train", "tracking=none", "engine=vector"],
    "default run, untracked, engine=numpy": ["train", "tracking=none", "engine=numpy"],
}


def command(words: list[str], folder: Path) -> dict[str, float]:
    """Wall seconds of a `microgpt` command, and its peak memory in MB, which is resident at once."""
    program = (
        "import resource, subprocess, sys, time; begun = time.perf_counter();"
        "subprocess.run(sys.argv[1:], check=True, stdout=subprocess.DEVNULL);"
        "print(time.perf_counter() - begun,"
        " resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024)"
    )
    microgpt = str(Path(sys.executable).with_name("microgpt"))
    words = [sys.executable, "-c", program, microgpt, *words]
    done = subprocess.run(words, capture_output=True, text=True, check=True, cwd=folder)
    seconds, memory = map(float, done.stdout.split()[-2:])
    return {"seconds": seconds, "megabytes": memory}


def commands(turns: int, folder: Path) -> list[dict[str, dict[str, float]]]:
    """Start-up, whole runs, and what tracking costs them: each turn has every command once."""
    command(COMMANDS["one step, tracked"], folder)  # makes the store
    return [
        {name: command(words, folder) for name, words in COMMANDS.items()} for _ in range(turns)
    ]
