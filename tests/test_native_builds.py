"""The C library of other sources, flags and compilers: the same bits, or refused."""

import math
import platform
import shutil
import struct
import subprocess
from pathlib import Path

import pytest

from microgpt.native.check import step
from microgpt.native.library import HEADERS, HERE, SOURCES, compiler
from microgpt.vector.engine import VectorEngine
from tests.libraries import HASH, OTHER_FLAGS, OTHER_SOURCES, QUICK, REPORT, run, vector_hash

pytestmark = pytest.mark.skipif(compiler() is None, reason="there is no C compiler")


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
        name
        if i == 0
        else pytest.param(name, marks=pytest.mark.slow if i % 4 == 0 else pytest.mark.soak)
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
    out, err = run(QUICK + OTHER_SOURCES.format(folder=str(tmp_path)) + REPORT, tmp_path)
    assert out.startswith("VectorEngine")
    assert err.startswith("microgpt: the compiled library has other bits than engine=vector: using")


FLUSHES = """
__attribute__((constructor)) static void flush(void) {
    __builtin_ia32_ldmxcsr(__builtin_ia32_stmxcsr() | 0x8040);
}
"""


@pytest.mark.skipif(platform.machine() != "x86_64", reason="another processor's instructions")
def test_a_library_that_rounds_small_numbers_to_0_is_refused(tmp_path: Path) -> None:
    """It does so to the whole process, which is as before when another engine takes its place."""
    for name in HEADERS + SOURCES:
        shutil.copy(HERE / name, tmp_path)
    with (tmp_path / "tape.c").open("a") as file:
        file.write(FLUSHES)
    check = "\nimport sys\nassert sys.float_info.min / 2 > 0"
    program = QUICK + OTHER_SOURCES.format(folder=str(tmp_path)) + HASH + check
    out, err = run(program, tmp_path)
    assert out == f"VectorEngine {vector_hash()}"
    assert "makes the processor round subnormal numbers to 0; see CC: using engine=vector" in err
    assert "\n" not in err


def test_fast_math_is_noticed_when_it_is_loaded(tmp_path: Path) -> None:
    """By its bits, or by what it does to the numbers of the whole process."""
    program = OTHER_FLAGS.format(flags=("-O3", "-march=native", "-ffast-math")) + REPORT
    out, err = run(program, tmp_path)
    assert out.startswith("VectorEngine")
    assert "has other bits" in err or "makes the processor round subnormal numbers to 0" in err


@pytest.mark.slow
def test_fast_math_in_cc_is_taken_back(tmp_path: Path) -> None:
    (command := compiler() or []).append("-ffast-math")
    assert run(HASH, tmp_path, CC=" ".join(command)) == (f"NativeEngine {vector_hash()}", "")


# Other compilers and other flags

BUILDS = {
    "gcc -O0": ("gcc", ("-O0",)),
    "gcc -O2, any processor": ("gcc", ("-O2",)),
    "gcc AVX2": ("gcc", ("-O3", "-mavx2", "-mfma")),
    "gcc AVX-512": ("gcc", ("-O3", "-march=native", "-mprefer-vector-width=512")),
    "clang": ("clang", ("-O3", "-march=native", "-fno-math-errno")),
    "clang -O0": ("clang", ("-O0",)),
}
FEW = ("gcc -O0", "gcc AVX2", "clang")  # of the slow tier


@pytest.mark.parametrize(
    "build",
    [
        pytest.param(name, marks=pytest.mark.slow if name in FEW else pytest.mark.soak)
        for name in BUILDS
    ],
)
def test_other_compilers_and_flags_give_the_same_bits(tmp_path: Path, build: str) -> None:
    command, flags = BUILDS[build]
    if shutil.which(command) is None:
        pytest.skip(f"no {command} here")
    if "-mavx2" in flags and "avx2" not in Path("/proc/cpuinfo").read_text():
        pytest.skip("no AVX2 here")
    program = OTHER_FLAGS.format(flags=flags) + HASH
    assert run(program, tmp_path, CC=command) == (f"NativeEngine {vector_hash()}", "")


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
    tests = ["tests/test_native.py", "tests/test_native_runs.py", "tests/test_native_replay.py"]
    words = ["-q", "-n", "0", "-p", "no:cacheprovider", "-k", "not memory", *tests]
    program = OTHER_FLAGS.format(flags=flags) + (
        f"import sys, pytest\nfrom microgpt import native\n"
        f"assert not native.problem()\nsys.exit(pytest.main({words!r}))"
    )
    options = {"ASAN_OPTIONS": "detect_leaks=0:abort_on_error=0", "LD_PRELOAD": runtime}
    out, _ = run(program, tmp_path, CC="gcc", **options)
    assert "passed" in out
