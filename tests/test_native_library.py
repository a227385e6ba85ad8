"""The C library: compiled once, whoever asks at the same time; the vector engine where there is none."""

import os
import time
from pathlib import Path

import pytest

from microgpt.native.library import compile_to, compiler
from tests.libraries import HASH, QUICK, REPORT, begin, run, vector_hash

pytestmark = pytest.mark.skipif(compiler() is None, reason="there is no C compiler")

# Where it is kept


def test_it_is_compiled_once(tmp_path: Path) -> None:
    assert run(HASH, tmp_path) == (f"NativeEngine {vector_hash()}", "")
    folder = tmp_path / "microgpt/native"
    kinds = sorted(file.suffix for file in folder.iterdir())
    assert kinds == [".checked", ".so"]
    before = {file: file.stat().st_mtime_ns for file in folder.iterdir()}
    assert run(HASH, tmp_path) == (f"NativeEngine {vector_hash()}", "")
    assert {file: file.stat().st_mtime_ns for file in before} == before


@pytest.mark.slow
def test_eight_processes_at_once_find_an_empty_cache(tmp_path: Path) -> None:
    processes = [begin(QUICK + HASH, tmp_path) for _ in range(8)]
    outs = [process.communicate() for process in processes]
    assert outs == [(f"NativeEngine {vector_hash()}\n", "")] * 8
    kinds = sorted(file.suffix for file in (tmp_path / "microgpt/native").iterdir())
    assert kinds == [".checked", ".so"]


def test_a_cache_that_cannot_be_written_is_survived(tmp_path: Path) -> None:
    (file := tmp_path / "file").touch()
    (temporary := tmp_path / "temporary").mkdir()
    assert run(QUICK + REPORT, file, TMPDIR=str(temporary)) == ("NativeEngine", "")
    assert not list(temporary.iterdir())


@pytest.mark.skipif(os.name != "posix", reason="no owners and modes here")
def test_a_cache_that_others_can_write_is_not_trusted(tmp_path: Path) -> None:
    """Whoever put a library there would run as this user."""
    program = f"""{QUICK}
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
    assert run(f"import os\nos.umask(0)\n{QUICK}{REPORT}", tmp_path) == ("NativeEngine", "")
    assert (tmp_path / "microgpt/native").stat().st_mode & 0o077 == 0


@pytest.mark.slow
def test_a_damaged_file_is_compiled_anew(tmp_path: Path) -> None:
    program = f"""{QUICK}
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
    run(QUICK + REPORT, tmp_path)
    left = {file.name for file in folder.iterdir()}
    assert len(left) == 5  # a library and its note too
    assert {"new.so", "running.tmp", "no file of ours"} < left
    os.utime(folder / "new.so", (0, 0))
    run(QUICK + REPORT, tmp_path)
    assert {file.name for file in folder.iterdir()} == left


# Where there is none


def test_without_a_compiler_the_vector_engine_takes_its_place(tmp_path: Path) -> None:
    out, err = run(HASH, tmp_path, PATH=str(tmp_path))
    assert out == f"VectorEngine {vector_hash()}"
    assert err == (
        "microgpt: no C compiler: using engine=vector, the same bits, some 60 times slower; "
        "apt install gcc"
    )


def test_the_library_of_a_wheel_needs_no_compiler(tmp_path: Path) -> None:
    compile_to(tmp_path / "carried.so", compiler() or [], ("-O0",))
    program = f"""
from pathlib import Path
from microgpt.native import library
library.CARRIED = Path({str(tmp_path / "carried.so")!r})
{HASH}"""
    assert run(program, tmp_path, PATH=str(tmp_path)) == (f"NativeEngine {vector_hash()}", "")


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
