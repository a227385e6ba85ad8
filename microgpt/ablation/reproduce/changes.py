"""What has changed since a run was recorded, among the things that its figures may depend on."""

import ast
from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import Any

from microgpt.run.source import source_files

SHOWN = 6  # maximum number of source files listed
HERE = ("os", "machine", "libm")  # facts of the fingerprint about the machine
LIBM = {  # functions of `math` and of generators that the C library computes
    *("exp", "exp2", "expm1", "log", "log2", "log10", "log1p", "pow", "cbrt", "erf", "erfc"),
    *("sin", "cos", "tan", "asin", "acos", "atan", "atan2", "sinh", "cosh", "tanh"),
}
DRAWN = {"gauss", "normalvariate", "lognormvariate", "expovariate", "betavariate", "gammavariate"}


def changes(before: Mapping[str, Any], now: Mapping[str, Any], modules: Iterable[str]) -> list[str]:
    """A line for each of source, packages, Python and machine that has changed since the record.

    The machine counts only if these modules use its C library's mathematics or NumPy.
    """
    lines = []
    source = before["source"]
    if "fork" in before:  # its parent's steps are not trained again
        source = source.partition(f" to step {before['fork']['step']}, then ")[2] or source
    if source != now["source"]:
        lines.append(f"source: {_files(before, now)}")
    if "packages" in before:
        lines += _pairs("package ", before["packages"], now["packages"])
    then, here = dict(before["fingerprint"]), dict(now["fingerprint"])
    moved = any(then.get(key) != here.get(key) for key in HERE)
    if moved and "numpy" not in now["packages"] and not asks_libm(modules):
        then, here = ({k: v for k, v in facts.items() if k not in HERE} for facts in (then, here))
    return lines + _pairs("", then, here)


def _pairs(what: str, before: Mapping[str, str], now: Mapping[str, str]) -> list[str]:
    """The facts that have changed."""
    keys = [key for key in {**before, **now} if before.get(key) != now.get(key)]
    values = {key: [facts.get(key, "nothing") for facts in (before, now)] for key in keys}
    return [
        f"{what}{key}: {short(then)} then, {short(here)} now"
        for key, (then, here) in values.items()
    ]


def short(value: str) -> str:
    """Shortens a digest; other values unchanged."""
    return value[:12] if len(value) == 64 and " " not in value else value


def _files(before: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    """The files that changed, as far as the record names them."""
    commit = before.get("git", {}).get("commit")
    place = f" (recorded at commit {commit[:12]})" if commit else ""
    if "source_files" not in before:
        return f"changed, in files that the record does not name{place}"
    then, here = before["source_files"], now["source_files"]
    names = [name for name in sorted({**then, **here}) if then.get(name) != here.get(name)]
    words = {True: "gone", False: "changed"}
    told = [f"{n} {'new' if n not in then else words[n not in here]}" for n in names]
    if not told:
        return f"that of {before['source']}{place}"  # trained by more than one source
    more = f" and {len(told) - SHOWN} more" if len(told) > SHOWN else ""
    return ", ".join(told[:SHOWN]) + more + place


def asks_libm(modules: Iterable[str]) -> bool:
    """Whether any file that these modules import uses the C library's mathematics, as `math.exp` does."""
    files = [file for file in source_files(modules).values() if file.suffix == ".py"]
    return any(_asks_libm(file.read_bytes()) for file in files)


@lru_cache(maxsize=1024)  # by content, since consecutive runs mostly have the same files
def _asks_libm(content: bytes) -> bool:
    return any(map(_calls_libm, ast.walk(ast.parse(content))))


def _calls_libm(node: ast.AST) -> bool:
    match node:
        case ast.Attribute(value=ast.Name("math"), attr=name):
            return name in LIBM
        case ast.Attribute(attr=name):
            return name in DRAWN
        case ast.ImportFrom(module="math", names=names):
            return any(alias.name in LIBM for alias in names)
        case ast.BinOp(op=ast.Pow(), left=base, right=power):  # but 2**18, x**0.5
            return not (_literal(base) or _literal(power))
    return False


def _literal(node: ast.AST) -> bool:
    return isinstance(node, ast.Constant) or (
        isinstance(node, ast.UnaryOp) and isinstance(node.operand, ast.Constant)
    )
