"""The C library: compiled once, whoever asks at the same time, refused where its bits are others."""

import math
import os
import platform
import shutil
import struct
import subprocess
import sys
import time
from pathlib import Path

import pytest

from microgpt.native.check import step
from microgpt.native.library import HEADERS, HERE, PORTABLE, SOURCES, compile_to, compiler
from microgpt.vector.engine import VectorEngine

pytestmark = pytest.mark.skipif(compiler() is None, reason="there is no C compiler")
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
OTHER_SOURCES = """
from pathlib import Path
from microgpt.native import library
library.HERE = Path({folder!r})
"""


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


@pytest.fixture(scope="module")
def expected() -> str:
    """The hash that the vector engine comes to."""
    program = HASH.replace("native.engine()", "VectorEngine()")
    out, _ = run(f"from microgpt.vector.engine import VectorEngine\n{program}", Path("/nowhere"))
    return out.split()[1]


# Where it is kept


def test_it_is_compiled_once(tmp_path: Path, expected: str) -> None:
    assert run(HASH, tmp_path) == (f"NativeEngine {expected}", "")
    folder = tmp_path / "microgpt/native"
    kinds = sorted(file.suffix for file in folder.iterdir())
    assert kinds == [".checked", ".so"]
    before = {file: file.stat().st_mtime_ns for file in folder.iterdir()}
    assert run(HASH, tmp_path) == (f"NativeEngine {expected}", "")
    assert {file: file.stat().st_mtime_ns for file in before} == before


@pytest.mark.slow
def test_eight_processes_at_once_find_an_empty_cache(tmp_path: Path, expected: str) -> None:
    processes = [begin(HASH, tmp_path) for _ in range(8)]
    outs = [process.communicate() for process in processes]
    assert outs == [(f"NativeEngine {expected}\n", "")] * 8
    kinds = sorted(file.suffix for file in (tmp_path / "microgpt/native").iterdir())
    assert kinds == [".checked", ".so"]


def test_a_cache_that_cannot_be_written_is_survived(tmp_path: Path) -> None:
    (file := tmp_path / "file").touch()
    (temporary := tmp_path / "temporary").mkdir()
    assert run(REPORT, file, TMPDIR=str(temporary)) == ("NativeEngine", "")
    assert not list(temporary.iterdir())


@pytest.mark.skipif(os.name != "posix", reason="no owners and modes here")
def test_a_cache_that_others_can_write_is_not_trusted(tmp_path: Path) -> None:
    """Whoever put a library there would run as this user."""
    program = f"""
from microgpt.native import library
library.folder().mkdir(parents=True)
library.folder().chmod(0o777)
file = library.folder() / library.file_name(library.compiler())
file.write_bytes(b"no library")
{REPORT}
assert [other.name for other in library.folder().iterdir()] == [file.name]
assert file.read_bytes() == b"no library"
"""
    assert run(program, tmp_path) == ("NativeEngine", "")


def test_nobody_else_can_write_to_the_cache(tmp_path: Path) -> None:
    assert run(f"import os\nos.umask(0)\n{REPORT}", tmp_path) == ("NativeEngine", "")
    assert (tmp_path / "microgpt/native").stat().st_mode & 0o077 == 0


@pytest.mark.slow
def test_a_damaged_file_is_compiled_anew(tmp_path: Path) -> None:
    program = f"""
from microgpt.native import library
file = library.folder() / library.file_name(library.compiler())
file.parent.mkdir(parents=True)
file.write_bytes(b"no library")
{REPORT}"""
    assert run(program, tmp_path) == ("NativeEngine", "")


def test_what_is_old_is_removed_when_a_library_is_written(tmp_path: Path) -> None:
    folder = tmp_path / "microgpt/native"
    folder.mkdir(parents=True, mode=0o700)
    days = {"old.so": 31, "old.checked": 31, "new.so": 29, "killed.tmp": 2, "running.tmp": 0.1}
    for name, age in (days | {"no file of ours": 99}).items():
        (folder / name).touch()
        os.utime(folder / name, (then := time.time() - age * 86400, then))
    run(REPORT, tmp_path)
    left = {file.name for file in folder.iterdir()}
    assert len(left) == 5  # a library and its note too
    assert {"new.so", "running.tmp", "no file of ours"} < left
    os.utime(folder / "new.so", (0, 0))
    run(REPORT, tmp_path)
    assert {file.name for file in folder.iterdir()} == left


# Where there is none


def test_without_a_compiler_the_vector_engine_takes_its_place(
    tmp_path: Path, expected: str
) -> None:
    out, err = run(HASH, tmp_path, PATH=str(tmp_path))
    assert out == f"VectorEngine {expected}"
    assert err == (
        "microgpt: no C compiler: using engine=vector, the same bits, some 60 times slower; "
        "apt install gcc"
    )


def test_the_library_of_a_wheel_needs_no_compiler(tmp_path: Path, expected: str) -> None:
    compile_to(tmp_path / "carried.so", compiler() or [], PORTABLE)
    program = f"""
from pathlib import Path
from microgpt.native import library
library.CARRIED = Path({str(tmp_path / "carried.so")!r})
{HASH}"""
    assert run(program, tmp_path, PATH=str(tmp_path)) == (f"NativeEngine {expected}", "")


def test_a_wheel_for_another_system_is_survived(tmp_path: Path) -> None:
    (tmp_path / "carried.so").write_bytes(b"no library")
    program = f"""
from pathlib import Path
from microgpt.native import library
library.CARRIED = Path({str(tmp_path / "carried.so")!r})
{REPORT}"""
    out, err = run(program, tmp_path, PATH=str(tmp_path))
    assert out.startswith("VectorEngine")
    assert err.startswith("microgpt: the library of the wheel cannot be loaded: ")
    assert "\n" not in err


def test_a_cc_that_is_no_command_is_no_compiler(tmp_path: Path) -> None:
    out, err = run(REPORT, tmp_path, CC="gcc '-O2")
    assert out == "VectorEngine no C compiler"
    assert err.startswith("microgpt: no C compiler: using engine=vector")


def test_a_compiler_that_fails_is_named(tmp_path: Path) -> None:
    (broken := tmp_path / "broken-cc").write_text(
        "#!/bin/sh\necho 'error: no licence' >&2\nexit 1\n"
    )
    broken.chmod(0o755)
    out, err = run(REPORT, tmp_path, CC=str(broken))
    assert out.startswith("VectorEngine")
    assert err.startswith(f"microgpt: {broken} failed: error: no licence: using engine=vector")
    assert "\n" not in err


# What is refused


def test_the_step_that_is_compared_is_one_of_finite_numbers() -> None:
    data = step(VectorEngine())
    assert all(map(math.isfinite, struct.unpack(f"<{len(data) // 8}d", data)))


CHANGES = {
    "a sum from right to left": (
        "for (long i = 0; i < n; i++) sum += x[i];",
        "for (long i = n; i-- > 0;) sum += x[i];",
    ),
    "a dot product from right to left": (
        "for (long i = 0; i < n; i++) sum += x[i] * y[i];",
        "for (long i = n; i-- > 0;) sum += x[i] * y[i];",
    ),
    "a mean by a product": ("dot(x, x, n) / (double)n", "dot(x, x, n) * (1.0 / (double)n)"),
    "a probability by a quotient": ("out[i] = out[i] * scale;", "out[i] = out[i] / total(out, n);"),
    "exp in another order": ("(low + high * (r", "low + (high * (r"),
    "queries from the last": (
        "for (long t = 0; t < d->queries; t++)\n        for (long h = 0; h < d->heads; h++) {\n"
        "            long seen = before + t + 1, at",
        "for (long t = d->queries; t-- > 0;)\n        for (long h = 0; h < d->heads; h++) {\n"
        "            long seen = before + t + 1, at",
    ),
    "Adam by other brackets": ("rate * first / (", "rate * (first / ("),
    "a gradient twice": (
        "sum[i] = node->grad[i] + g[i]",
        "sum[i] = g[i] + 2 * node->grad[i]",
    ),
    "a norm from right to left": (
        "for (int64_t i = 0; i < n; i++) sum += x[i] * x[i];",
        "for (int64_t i = n; i-- > 0;) sum += x[i] * x[i];",
    ),
    "a row that is gathered often from the last": (
        "EACH(t, c->count)\n        for (long j = 0; j < n; j++) dx[c->ints[t]",
        "for (int64_t t = c->count; t-- > 0;)\n        for (long j = 0; j < n; j++) dx[c->ints[t]",
    ),
    "a repeated row's gradient from the last": (
        "for (long i = 0; i < rows; i++)\n            for (long j = 0; j < n; j++) sums",
        "for (long i = rows; i-- > 0;)\n            for (long j = 0; j < n; j++) sums",
    ),
    "a bias from its beginning": ("bias_length + seen - 1 - s]", "bias_length + s]"),
    "keys of another head": (
        "turned + h / d->share * d->size * d->keys",
        "turned + (d->heads / d->share - 1) * d->size * d->keys",
    ),
    "a root by exp and log": ("? sqrt(x) : NAN", "? exact_exp(0.5 * exact_log(x)) : NAN"),
    "a shorter fraction of tanh": ("z / (13.0 + z / (15.0 + z / 17.0))", "z / (13.0 + z / 15.0)"),
}


@pytest.mark.parametrize(
    "change",
    [
        name if i == 0 else pytest.param(name, marks=pytest.mark.slow)
        for i, name in enumerate(CHANGES)
    ],
)
def test_a_changed_addition_is_noticed_when_it_is_loaded(tmp_path: Path, change: str) -> None:
    old, new = CHANGES[change]
    for name in HEADERS + SOURCES:
        shutil.copy(HERE / name, tmp_path)
    changed = 0
    for name in SOURCES:
        text = (tmp_path / name).read_text()
        changed += text.count(old)
        text = text.replace(old, new)
        if change == "Adam by other brackets":
            text = text.replace("(sqrt(second) + eps)", "(sqrt(second) + eps))")
        (tmp_path / name).write_text(text)
    assert changed == 1
    out, err = run(OTHER_SOURCES.format(folder=str(tmp_path)) + REPORT, tmp_path)
    assert out.startswith("VectorEngine")
    assert err.startswith("microgpt: the compiled library has other bits than engine=vector: using")


FLUSHES = """
__attribute__((constructor)) static void flush(void) {
    __builtin_ia32_ldmxcsr(__builtin_ia32_stmxcsr() | 0x8040);
}
"""


@pytest.mark.skipif(platform.machine() != "x86_64", reason="another processor's instructions")
def test_a_library_that_rounds_small_numbers_to_0_is_refused(tmp_path: Path, expected: str) -> None:
    """It does so to the whole process, which is as before when another engine takes its place."""
    for name in HEADERS + SOURCES:
        shutil.copy(HERE / name, tmp_path)
    with (tmp_path / "tape.c").open("a") as file:
        file.write(FLUSHES)
    check = "\nimport sys\nassert sys.float_info.min / 2 > 0"
    out, err = run(OTHER_SOURCES.format(folder=str(tmp_path)) + HASH + check, tmp_path)
    assert out == f"VectorEngine {expected}"
    assert "makes the processor round subnormal numbers to 0; see CC: using engine=vector" in err
    assert "\n" not in err


def test_fast_math_is_noticed_when_it_is_loaded(tmp_path: Path) -> None:
    """By its bits, or by what it does to the numbers of the whole process."""
    program = OTHER_FLAGS.format(flags=("-O3", "-march=native", "-ffast-math")) + REPORT
    out, err = run(program, tmp_path)
    assert out.startswith("VectorEngine")
    assert "has other bits" in err or "makes the processor round subnormal numbers to 0" in err


@pytest.mark.slow
def test_fast_math_in_cc_is_taken_back(tmp_path: Path, expected: str) -> None:
    (command := compiler() or []).append("-ffast-math")
    assert run(HASH, tmp_path, CC=" ".join(command)) == (f"NativeEngine {expected}", "")


# Other compilers and other flags

BUILDS = {
    "gcc -O0": ("gcc", ("-O0",)),
    "gcc -O2, any processor": ("gcc", ("-O2",)),
    "gcc AVX2": ("gcc", ("-O3", "-mavx2", "-mfma")),
    "gcc AVX-512": ("gcc", ("-O3", "-march=native", "-mprefer-vector-width=512")),
    "clang": ("clang", ("-O3", "-march=native", "-fno-math-errno")),
    "clang -O0": ("clang", ("-O0",)),
}


@pytest.mark.slow
@pytest.mark.parametrize("build", BUILDS)
def test_other_compilers_and_flags_give_the_same_bits(
    tmp_path: Path, expected: str, build: str
) -> None:
    command, flags = BUILDS[build]
    if shutil.which(command) is None:
        pytest.skip(f"no {command} here")
    if "-mavx2" in flags and "avx2" not in Path("/proc/cpuinfo").read_text():
        pytest.skip("no AVX2 here")
    program = OTHER_FLAGS.format(flags=flags) + HASH
    assert run(program, tmp_path, CC=command) == (f"NativeEngine {expected}", "")


@pytest.mark.slow
def test_no_sanitizer_finds_anything(tmp_path: Path) -> None:
    """AddressSanitizer and UndefinedBehaviorSanitizer, over all operations and many models."""
    if shutil.which("gcc") is None:
        pytest.skip("no gcc here")
    asked = subprocess.run(
        ["gcc", "-print-file-name=libasan.so"], capture_output=True, text=True, check=True
    )
    if not Path(runtime := asked.stdout.strip()).is_absolute():
        pytest.skip("no AddressSanitizer here")
    sanitize = ("-fsanitize=address,undefined", "-fno-sanitize-recover=all")
    flags = ("-O1", "-g", "-march=native", *sanitize)
    tests = ["tests/test_native.py", "tests/test_native_runs.py"]
    words = ["-q", "-n", "0", "-p", "no:cacheprovider", "-k", "not memory", *tests]
    program = OTHER_FLAGS.format(flags=flags) + (
        f"import sys, pytest\nfrom microgpt import native\n"
        f"assert not native.problem()\nsys.exit(pytest.main({words!r}))"
    )
    options = {"ASAN_OPTIONS": "detect_leaks=0:abort_on_error=0", "LD_PRELOAD": runtime}
    out, _ = run(program, tmp_path, CC="gcc", **options)
    assert "passed" in out
