"""What a run is: which question it answers, which code answered, and what its figures depend on."""

import ast
import json
import math
import platform
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from hashlib import sha256
from importlib.metadata import PackageNotFoundError, packages_distributions, version
from importlib.util import find_spec, resolve_name
from pathlib import Path
from random import Random
from struct import pack
from typing import Any

# What does not change a run's figures. The data count by their digest, wherever they come from.
EXCLUDED = {
    *("hydra", "paths", "tracking", "launcher", "progress", "resume", "skip", "sweep"),
    *("experiment", "description", "data.path", "data._target_"),
}


def leaves(config: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """The configuration as `{"a.b.c": value}`; lists are values."""
    flat: dict[str, Any] = {}
    for key, value in config.items():
        if isinstance(value, Mapping):
            flat |= leaves(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value
    return flat


def question(config: Mapping[str, Any]) -> dict[str, Any]:
    """The leaves that a run's figures depend on, sorted; 1.0 counts as 1."""
    return {
        key: int(value) if isinstance(value, float) and value.is_integer() else value
        for key, value in sorted(leaves(config).items())
        if key not in EXCLUDED and key.split(".")[0] not in EXCLUDED
    }


def signature(
    config: Mapping[str, Any],
    data_digest: str,
    arithmetic: str = "",
    fork: Mapping[str, Any] | None = None,
) -> str:
    """sha256 over the canonical JSON of `question` and the data's digest.

    That of a fork names the parent's signature and the step, unless the fork asks what its parent asked.
    """
    named = {}
    if fork is not None:
        same = signature(config, data_digest, arithmetic, fork.get("fork"))
        if same == fork["signature"]:
            return same
        named = {"fork": f"{fork['signature']}@{fork['step']}"}
    canonical = {**question(config), "data.digest": data_digest, **named}
    return sha256(json.dumps(canonical, sort_keys=True).encode()).hexdigest()


def modules(config: Mapping[str, Any]) -> list[str]:
    """The modules of the classes that a run's figures come from."""
    classes = {key: name for key, name in leaves(config).items() if key.endswith("_target_")}
    return [
        name.rpartition(".")[0] for key, name in classes.items() if not key.startswith("tracking")
    ]


def code(modules: Iterable[str]) -> dict[str, Any]:
    """`source`, the digest of each of its files, and the versions of the packages that they import."""
    files = source_files(modules)
    return {
        "source": _source(files),
        "source_files": {
            name: sha256(files[name].read_bytes()).hexdigest() for name in sorted(files)
        },
        "packages": packages(files),
    }


def source(modules: Iterable[str]) -> str:
    """sha256 over the bytes of all modules that `modules` reach by static imports in their package."""
    return _source(source_files(modules))


def _source(files: Mapping[str, Path]) -> str:
    digest = sha256()
    for name in sorted(files):
        content = files[name].read_bytes()
        digest.update(f"{name} {len(content)}\n".encode() + content)
    return digest.hexdigest()


def packages(files: Mapping[str, Path]) -> dict[str, str]:
    """The versions of what others wrote and these modules import: package -> version, sorted."""
    own = {name.partition(".")[0] for name in files}
    tops = {
        name.partition(".")[0]
        for path in files.values()
        for name in _imported(path.read_text(encoding="utf-8"))
    }
    others = tops - own - sys.stdlib_module_names
    return {name: found for name in sorted(others) if (found := _version(name))}


def _version(name: str) -> str:
    """The version of the package that brings the module `name`; empty if none is installed."""
    try:
        return version(name)
    except PackageNotFoundError:  # its name may be another than the module's
        bringing = packages_distributions().get(name, [])
        return " ".join(f"{package} {version(package)}" for package in bringing)


def _parsed(text: str) -> ast.AST:
    """The syntax tree of a source text."""
    try:
        return ast.parse(text)
    except SystemError:  # python/cpython#106905: 3.11 counts wrongly when two threads parse at once
        return ast.parse(text)


def _imported(text: str) -> list[str]:
    """The modules that a source text imports by their full names."""
    nodes = list(ast.walk(_parsed(text)))
    names = [alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names]
    absolute = [node for node in nodes if isinstance(node, ast.ImportFrom) and not node.level]
    return names + [node.module for node in absolute if node.module]


def source_files(modules: Iterable[str]) -> dict[str, Path]:
    """Module name -> file, for `modules` and what they import from their own top-level packages."""
    files: dict[str, Path] = {}
    waiting = list(modules)
    while waiting:
        name = waiting.pop()
        spec = find_spec(name)
        if name in files or spec is None or spec.origin is None:
            continue
        files[name] = Path(spec.origin)
        parent = name.rpartition(".")[0]  # its __init__ runs, too
        home = name if spec.submodule_search_locations else parent
        waiting += _imports(files[name].read_text(encoding="utf-8"), home) + [parent] * bool(parent)
    return files


def _imports(text: str, home: str) -> list[str]:
    """The modules that a source text in the package `home` imports from its top-level package."""
    found = []
    for node in ast.walk(_parsed(text)):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            module = resolve_name("." * node.level + (node.module or ""), home)
            found += [module, *(f"{module}.{alias.name}" for alias in node.names)]
    top = home.partition(".")[0]
    return [name for name in found if name.partition(".")[0] == top and _is_module(name)]


def _is_module(name: str) -> bool:
    try:
        return find_spec(name) is not None
    except ModuleNotFoundError:  # its parent is a module, not a package
        return False


def parameters_sha256(weights: Mapping[str, Sequence[float]]) -> str:
    """sha256 over all parameters, flat and in state-dict order, as little-endian doubles."""
    return sha256(b"".join(pack(f"<{len(flat)}d", *flat) for flat in weights.values())).hexdigest()


def libm_digest() -> str:
    """sha256 over a fixed battery of libm results: equal digests, equal bits of `math`."""
    rng = Random(0)
    points = [rng.random() * 20 - 10 for _ in range(1000)]
    results = [math.exp(x) for x in points]
    results += [math.log(abs(x)) for x in points]
    results += [abs(x) ** -0.5 for x in points] + [0.85**t for t in range(1000)]
    results += [math.tanh(x) for x in points]
    results += [rng.gauss(0, 1) for _ in range(1000)]
    return sha256(pack(f"<{len(results)}d", *results)).hexdigest()


def fingerprint(engine: str, depends_on: Mapping[str, str]) -> dict[str, str]:
    """What a run's figures may depend on beside its question and its source."""
    return {
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "os": f"{platform.system()} {platform.libc_ver()[0]} {platform.libc_ver()[1]}".strip(),
        "machine": platform.machine(),
        "engine": engine,
        "libm": libm_digest(),
        **depends_on,
    }


def git_state(folder: Path) -> dict[str, str]:
    """`commit`, `dirty` ("true" or "false") and `diff` of the checkout that holds `folder`, if any."""

    def git(*words: str) -> str:
        # Without its lock on the index, which a run that is killed meanwhile would leave for ever.
        no_lock = ["--no-optional-locks", "-c", "diff.autoRefreshIndex=false"]
        command = ["git", *no_lock, "-C", str(folder), *words]
        done = subprocess.run(command, capture_output=True, check=True)
        return done.stdout.decode(errors="replace")

    try:
        git("ls-files", "--error-unmatch", ".")  # installed below someone else's checkout: not ours
        commit = git("rev-parse", "HEAD").strip()
        status, diff = (
            git("status", "--porcelain"),
            git("diff", "HEAD", "--no-color", "--no-ext-diff"),
        )
    except (OSError, subprocess.CalledProcessError):
        return {}
    return {"commit": commit, "dirty": str(bool(status.strip())).lower(), "diff": diff}
