"""The C library: compiled once with the system's compiler, cached for the user, loaded by ctypes.

The file's name is a digest of the sources, the flags, the compiler and the processor. It is written
under another name and renamed, so that several processes may compile at once. If the cache is not
writable, is writable by others, or its files cannot be executed, a temporary folder replaces it. If
compilation fails, the library that a wheel may contain is used. Writing a library removes old files
from the cache.
"""

import ctypes
import math
import os
import platform
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from ctypes import c_double, c_int, c_int64, c_void_p
from errno import EACCES
from functools import cache
from hashlib import sha256
from pathlib import Path

HERE = Path(__file__).parent
SOURCES = ("arithmetic.c", "tape.c")
HEADERS = ("arithmetic.h", "tape.h")
# No fused multiply-add and no reordered sums, so that the bits are the same everywhere.
EXACT = ("-ffp-contract=off", "-fno-fast-math")
# These change no result: errno and the exception flags are not read. They follow EXACT, which would
# reset them.
PORTABLE = ("-O3", "-fno-math-errno", "-fno-trapping-math")
FAST = (*PORTABLE, "-march=native")
SHARED = ("-std=gnu11", "-shared", "-fPIC", "-fvisibility=hidden")
SYMBOLIC = ("-Wl,-Bsymbolic",) if sys.platform.startswith("linux") else ()
COMPILERS = ("cc", "gcc", "clang")
SECONDS = 120
DAYS = {".so": 30, ".checked": 30, ".tmp": 1}  # until a file of the cache is removed as old
CARRIED = HERE / "carried.so"  # in wheels that were built with a compiler

Signatures = dict[str, tuple[object, tuple[object, ...]]]
SIGNATURES: Signatures = {
    "tape_new": (c_void_p, ()),
    "tape_free": (None, (c_void_p,)),
    "tape_reset": (None, (c_void_p,)),
    "tape_run": (c_int64, (c_void_p, c_void_p, c_int64)),
    "tape_give": (c_int, (c_void_p, c_int64, c_void_p)),
    "tape_backward": (c_int, (c_void_p, c_int64)),
    "tape_numbers": (c_void_p, (c_void_p, c_int64)),
    "tape_replay": (c_int, (c_void_p, c_void_p, c_int64, c_int64, c_int64, c_void_p)),
    "square_sum": (c_double, (c_double, c_void_p, c_int64)),
    "adam_step": (None, (c_void_p,) * 4 + (c_int64,) + (c_double,) * 4),
    "compiled_by": (ctypes.c_char_p, ()),
    "function_of": (None, (c_void_p, c_void_p, c_int64, c_int64, c_double)),
}


class Unavailable(Exception):
    """No library can be used; the message says why, in one line."""


@cache
def library() -> ctypes.PyDLL:
    """The library, compiled if necessary. Raises Unavailable."""
    command = compiler()
    try:
        if command is None:
            raise Unavailable("no C compiler")
        return _cached(command) or _temporary(command)
    except Unavailable:
        if not CARRIED.exists():
            raise
        return _carried()


def loaded_from() -> Path:
    """The file that the library was loaded from; a temporary one no longer exists."""
    return Path(library()._name)


def facts() -> dict[str, str]:
    """The compiler and the flags; results should not depend on them."""
    version = library().compiled_by().decode()
    carried = library()._name == str(CARRIED)
    return {"compiler": version, "flags": " ".join(flags(PORTABLE if carried else None))}


def flags(speed: tuple[str, ...] | None = None) -> tuple[str, ...]:
    """The compiler's flags, which follow those in the user's CC."""
    return EXACT + (FAST if speed is None else speed) + SHARED + SYMBOLIC


def compiler() -> list[str] | None:
    """The command in CC, else the first compiler found in PATH."""
    try:
        named = shlex.split(os.environ.get("CC", ""))
    except ValueError:  # a quotation without an end
        return None
    for command in [named] if named else [[name] for name in COMPILERS]:
        if (path := shutil.which(command[0])) is not None:
            return [path, *command[1:]]
    return None


def folder() -> Path:
    """In the user's cache; apart from data that are kept there, since only libraries are dangerous."""
    root = os.environ.get("XDG_CACHE_HOME", "")
    return (Path(root) if root.startswith("/") else Path.home() / ".cache") / "microgpt/native"


def private(folder: Path) -> Path:
    """A folder, made if need be, in which nobody else can put a library. Raises OSError."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    state = folder.stat()
    if os.name == "posix" and (state.st_uid != os.geteuid() or state.st_mode & 0o022):
        raise PermissionError(EACCES, "others can write to it", str(folder))
    return folder


def file_name(command: list[str]) -> str:
    """A name from all inputs of the compilation; running the compiler for its version takes 10 ms."""
    real = Path(command[0]).resolve()
    state = real.stat()
    digest = sha256()
    for name in HEADERS + SOURCES:
        digest.update((HERE / name).read_bytes() + b"\0")
    told = (*command, *flags(), real, state.st_size, state.st_mtime_ns, processor())
    digest.update("\0".join(map(str, told)).encode())
    return f"native-{digest.hexdigest()[:32]}.so"


def processor() -> str:
    """The model and features of the processor, on which -march=native depends."""
    try:
        with open("/proc/cpuinfo", "rb") as file:
            first = file.read(4096).decode(errors="replace").split("\n\n")[0]
    except OSError:
        return f"{platform.machine()} {platform.version()}"
    telling = ("model", "stepping", "flags", "Features", "CPU ")
    return "\n".join(line for line in first.splitlines() if line.startswith(telling))


def compile_to(file: Path, command: list[str], speed: tuple[str, ...] | None = None) -> None:
    """Compiles the sources to `file`, atomically. Raises OSError, Unavailable."""
    handle, name = tempfile.mkstemp(suffix=".tmp", dir=file.parent)
    os.close(handle)
    try:
        sources = [str(HERE / source) for source in SOURCES]
        done = subprocess.run(
            [*command, *flags(speed), "-o", name, *sources, "-lm"],
            capture_output=True,
            text=True,
            errors="replace",
            timeout=SECONDS,
        )
        if done.returncode:
            lines = [line for line in done.stderr.splitlines() if "error" in line]
            raise Unavailable(f"{command[0]} failed: {(lines or ['no message'])[0].strip()}")
        os.replace(name, file)
    except subprocess.TimeoutExpired as error:
        raise Unavailable(f"{command[0]} took more than {SECONDS} s") from error
    finally:
        if os.path.exists(name):
            os.unlink(name)


def load(file: Path) -> ctypes.PyDLL:
    """Loads the library and declares its functions. Raises OSError, Unavailable."""
    # PyDLL holds the GIL: two threads never use one tape at once, and a call costs less.
    loaded = ctypes.PyDLL(str(file))
    for name, (result, arguments) in SIGNATURES.items():
        function = getattr(loaded, name)
        function.restype, function.argtypes = result, arguments
    if _rounds_to_0():  # some compilers let a library do that by -ffast-math
        why = f"{file} makes the processor round subnormal numbers to 0; see CC"
        with suppress(OSError, AttributeError):
            ctypes.CDLL(None).fesetenv(c_void_p(-1))  # FE_DFL_ENV: as when the process began
        if _rounds_to_0():  # every engine would have other bits
            raise FloatingPointError(why)
        raise Unavailable(why)
    return loaded


def _rounds_to_0() -> bool:
    return sys.float_info.min / 2 == 0.0


def _cached(command: list[str]) -> ctypes.PyDLL | None:
    """The library from the user's cache, compiled if necessary; None if that fails."""
    try:
        file = private(folder()) / file_name(command)
        try:
            return load(file)
        except (OSError, AttributeError):  # not there, or damaged
            compile_to(file, command)
            _remove_old(file.parent)
            return load(file)
    except (OSError, AttributeError, RuntimeError):  # RuntimeError: no home folder
        return None


def _remove_old(folder: Path) -> None:
    """Remove what no process is likely to need again; one that does compiles it anew."""
    for file in folder.iterdir():
        with suppress(OSError):  # another process removed it
            if time.time() - file.stat().st_mtime > 86400 * DAYS.get(file.suffix, math.inf):
                file.unlink()


def _carried() -> ctypes.PyDLL:
    """The library of a wheel, which may be one for another system. Raises Unavailable."""
    try:
        return load(CARRIED)
    except (OSError, AttributeError) as error:
        raise Unavailable(f"the library of the wheel cannot be loaded: {error}") from error


def _temporary(command: list[str]) -> ctypes.PyDLL:
    """The library, compiled in a temporary folder that is deleted after loading. Raises Unavailable."""
    try:
        with tempfile.TemporaryDirectory(prefix="microgpt-") as home:
            file = Path(home) / "native.so"
            compile_to(file, command)
            return load(file)
    except (OSError, AttributeError) as error:
        raise Unavailable(f"the compiled library cannot be loaded: {error}") from error
