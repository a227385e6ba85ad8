"""The code of a run: the files that its classes import, and their digest (`source`)."""

import ast
import json
import sys
import sysconfig
from collections.abc import Iterable, Iterator, Mapping
from hashlib import sha256
from importlib.machinery import ModuleSpec
from importlib.metadata import PackageNotFoundError, packages_distributions, version
from importlib.util import resolve_name
from pathlib import Path
from typing import Any, NamedTuple

from microgpt.run.prose import Import, read, read_c

OURS = __name__.partition(".")[0]  # included even if installed
FACE = b""  # stands for the __init__ of this package: its version, and names that no run uses
WIRING = f"{OURS}.core.assemble"  # assembles every run, but is named in no configuration
STANDARD = {Path(ast.__file__).parent, Path(sysconfig.get_path("platstdlib"))}
INSTALLED = {"site-packages", "dist-packages"}  # folders of third-party packages


def modules(config: Mapping[str, Any]) -> list[str]:
    """The modules of a run's classes and factories, and WIRING."""
    return modules_of(targets(config))


def targets(config: Mapping[str, Any]) -> frozenset[str]:
    """The dotted paths of a run's classes and factories."""
    return frozenset(_targets({key: config[key] for key in config if key != "tracking"}))


def modules_of(targets: Iterable[str]) -> list[str]:
    """The modules of these classes and factories, and WIRING."""
    finder, waiting, seen = Finder(), list(targets), set[str]()
    found = {WIRING}
    while waiting:
        target = waiting.pop()
        name = finder.module(target)
        if target not in seen and name is not None:
            found.add(name)
            waiting += _handed_on(finder, name, target)
        seen.add(target)
    return sorted(found)


def _handed_on(finder: "Finder", name: str, target: str) -> list[str]:
    """The names by which an installed module imports this target of it.

    What a module of ours or the user's imports is included anyway.
    """
    place = finder.place(name)
    if place is None or place.file is None or _is_own(name, place.file):
        return []
    home = name.rpartition(".")[0] if place.folders is None else name
    last = target.removeprefix(f"{name}.").partition(".")[0]
    names = [each for one in _imports(name, place.file) for each in _names(one, home)]
    return [each for each in names if each.endswith(f".{last}")]


def _targets(value: Any) -> Iterator[str]:
    """Every `_target_` in a configuration, at any depth, and the path that a target of Hydra's looks up."""
    if isinstance(value, Mapping):
        target, path = value.get("_target_"), value.get("path")
        if isinstance(target, str):
            yield target
            if target.startswith("hydra.utils.") and isinstance(path, str):
                yield path
        value = list(value.values())
    if isinstance(value, list | tuple):
        for each in value:
            yield from _targets(each)


def code(modules: Iterable[str]) -> dict[str, Any]:
    """`source`, the digest of each of its files, and the versions of the packages that they import."""
    names = list(modules)
    files = source_files(names)
    digests = _digests(files)
    others = packages(files, names)
    return {"source": _joint(digests), "source_files": digests, "packages": others}


def source(modules: Iterable[str]) -> str:
    """sha256 of the code, without prose, of all files that these modules reach by static imports."""
    return _joint(_digests(source_files(modules)))


def _digests(files: Mapping[str, Path]) -> dict[str, str]:
    return {name: sha256(_code(name, files[name])).hexdigest() for name in sorted(files)}


def _code(name: str, file: Path) -> bytes:
    """A file's code without prose; all bytes of a file that is neither Python nor C."""
    if name == OURS:
        return FACE
    content = file.read_bytes()
    if file.suffix == ".py":
        return read(content).text.encode()
    return read_c(content).encode() if file.suffix in {".c", ".h"} else content


def _joint(digests: Mapping[str, str]) -> str:
    return sha256(json.dumps(digests, sort_keys=True).encode()).hexdigest()


def source_files(modules: Iterable[str]) -> dict[str, Path]:
    """Name -> file of these modules and everything they import, including the __init__ of packages.

    Excludes the standard library and installed packages other than this one. Of installed packages
    only `modules` themselves are included, with what they import of this package. Includes the C files
    in a package's folder, as `package/file.c`.
    """
    finder, waiting = Finder(), list(modules)
    named = set(waiting)
    files: dict[str, Path] = {}
    seen: set[str | None] = {None}
    while waiting:
        name = finder.module(waiting.pop())
        if name in seen or name is None:
            continue
        seen.add(name)
        parent = name.rpartition(".")[0]
        waiting += [parent] * bool(parent)
        place = finder.place(name)
        if place is None or place.file is None:
            continue
        own = _is_own(name, place.file)
        if not own and not (name in named and _is_installed_python(place.file)):
            continue
        files[name] = place.file
        if place.folders is not None:
            files |= {f"{name}/{file.name}": file for file in place.file.parent.glob("*.[ch]")}
        home = parent if place.folders is None else name
        imported = [each for one in _imports(name, place.file) for each in _names(one, home)]
        waiting += [each for each in imported if own or _is_ours(each)]
    return files


def _is_own(name: str, file: Path) -> bool:
    """Whether a module belongs to this package or to the user, not to an installed package."""
    parents = file.parents
    installed = not STANDARD.isdisjoint(parents) or not INSTALLED.isdisjoint(file.parts)
    return _is_ours(name) or not installed


def _is_ours(name: str) -> bool:
    return name.partition(".")[0] == OURS


def _is_installed_python(file: Path) -> bool:
    """Whether a file is Python of an installed package, not of the standard library."""
    return file.suffix == ".py" and not INSTALLED.isdisjoint(file.parts)


def _imports(name: str, file: Path) -> Iterable[Import]:
    return read(file.read_bytes()).imports if file.suffix == ".py" and name != OURS else ()


def _names(one: Import, home: str) -> list[str]:
    """The absolute names that an import statement in the package `home` imports."""
    try:
        module = resolve_name("." * one.level + one.module, home)
    except ImportError:  # beyond the top-level package: it cannot run
        return []
    return [f"{module}.{name}" for name in one.names] or [module]


def packages(files: Mapping[str, Path], modules: Iterable[str] = ()) -> dict[str, str]:
    """The installed packages of these modules and imports of these files: package -> version, sorted."""
    own = {name.partition(".")[0] for name, file in files.items() if _is_own(name, file)}
    imports = [one for name in files for one in _imports(name, files[name]) if not one.level]
    names = [*modules, *(one.module for one in imports)]
    others = {name.partition(".")[0] for name in names} - own - sys.stdlib_module_names
    return {name: found for name in sorted(others) if (found := _version(name))}


def _version(name: str) -> str:
    """The version of the package that provides the module `name`; empty if none is installed."""
    try:
        return version(name)
    except PackageNotFoundError:  # the package may have another name than the module
        bringing = packages_distributions().get(name, [])
        return " ".join(f"{package} {version(package)}" for package in bringing)


class Place(NamedTuple):
    """The file of a module and, for a package, the folders that are searched for its modules."""

    file: Path | None  # None for a package without an __init__ and for built-in modules
    folders: list[str] | None


class Finder:
    """Finds modules as an import would, without executing their packages."""

    def __init__(self) -> None:
        self._places: dict[str, Place | None] = {}

    def module(self, name: str) -> str | None:
        """The longest prefix of a dotted name that is a module: `a.b` of `a.b.Class.method`."""
        while name and self.place(name) is None:
            name = name.rpartition(".")[0]
        return name or None

    def place(self, name: str) -> Place | None:
        """The place of a module, None if it does not exist."""
        if name not in self._places:
            self._places[name] = self._search(name)
        return self._places[name]

    def _search(self, name: str) -> Place | None:
        parent, _, last = name.rpartition(".")
        above = self.place(parent) if parent else Place(None, None)
        if not last.isidentifier() or above is None or (parent and above.folders is None):
            return None
        spec = _spec(name, above.folders)
        if spec is None:
            return None
        file = Path(spec.origin) if spec.has_location and spec.origin else None
        if spec.submodule_search_locations is None:
            return Place(file, None)
        if file is not None or above.folders is None:
            return Place(file, list(spec.submodule_search_locations))
        folders = [Path(folder, last) for folder in above.folders]
        return Place(None, [str(folder) for folder in folders if folder.is_dir()])


def _spec(name: str, folders: list[str] | None) -> ModuleSpec | None:
    """The spec that an import would find in these folders; None stands for `sys.path`."""
    try:
        found = (finder.find_spec(name, folders) for finder in sys.meta_path)
        return next((spec for spec in found if spec is not None), None)
    except KeyError:  # a package without an __init__ expects its parent in sys.modules
        return ModuleSpec(name, None, is_package=True)
