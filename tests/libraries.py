"""Programs that load the C library, each in a process and with a cache of its own."""

import os
import subprocess
import sys
from functools import cache
from pathlib import Path

from microgpt.run.identity import parameters_sha256
from microgpt.vector.engine import VectorEngine
from tests.models import trainer_of

ROOT = Path(__file__).parent.parent

REPORT = """
from microgpt import native
ops, again = native.engine(), native.engine()
print(type(ops).__name__, native.problem())
"""
HASH = """
from microgpt import native
from microgpt.run.identity import parameters_sha256
from tests.models import trainer_of
trainer = trainer_of(native.engine(), num_steps=60, n_embd=24, n_head=3, batch_size=2)
trainer.run()
print(type(trainer.engine).__name__, parameters_sha256(trainer.engine.flat(trainer.weights)))
"""
OTHER_FLAGS = "from microgpt.native import library\nlibrary.FAST = {flags!r}\n"
# Compiled in an eighth of the time, to a library with the same bits.
QUICK = OTHER_FLAGS.format(flags=("-O0",))
OTHER_SOURCES = """
from pathlib import Path
from microgpt.native import library
library.HERE = Path({folder!r})
"""


@cache
def vector_hash() -> str:
    """The hash that the vector engine comes to in HASH."""
    trainer = trainer_of(VectorEngine(), num_steps=60, n_embd=24, n_head=3, batch_size=2)
    trainer.run()
    return parameters_sha256(trainer.engine.flat(trainer.weights))


def begin(program: str, cache: Path, **environment: str) -> subprocess.Popen[str]:
    env = os.environ | {"XDG_CACHE_HOME": str(cache)} | environment
    pipe = subprocess.PIPE
    command = [sys.executable, "-c", program]
    return subprocess.Popen(command, cwd=ROOT, env=env, stdout=pipe, stderr=pipe, text=True)


def run(program: str, cache: Path, **environment: str) -> tuple[str, str]:
    """What a fresh process with a cache of its own says: standard output and error."""
    process = begin(program, cache, **environment)
    out, err = process.communicate()
    assert process.returncode == 0, err
    return out.strip(), err.strip()
