"""The identity of a run: its question (signature) and its environment (fingerprint)."""

import json
import math
import platform
import re
import subprocess
from collections.abc import Mapping, Sequence
from functools import cache
from hashlib import sha256
from pathlib import Path
from random import Random
from struct import pack
from typing import Any

OURS = "microgpt."
# Keys that change no figures. The data are identified by their digest, not by their source; only a
# class of the user's may split them differently.
EXCLUDED = {
    *("hydra", "paths", "tracking", "launcher", "progress", "resume", "skip", "sweep"),
    *("experiment", "description", "data.path", "data._target_"),
}
# For each key added later, the value with which a run computes what it did before the key existed. A
# key with its neutral value is left out of the question, so that earlier runs keep their signatures.
# Types count: `1` is neither true nor "1".
NEUTRAL: dict[str, Any] = {
    "loss._target_": "microgpt.core.loss.cross_entropy.CrossEntropy",
    "model.block._target_": "microgpt.core.layers.block.pre_norm.PreNorm",
    "model.block.residual": 1,
    "model.norm_embd": True,
    "model.norm_final": False,
    "model.norm_qk": False,
    "model.bias": False,
    "optimizer.decayed": "all",
    "trainer.accumulate": 1,
    "trainer.train_length": None,
    "trainer.patience": None,
    "trainer.average": None,
    "data.test_fraction": 0,
    "data.split": "hash",
}
NAME = re.compile(r"[\w-]+")


def leaves(config: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Flattens the configuration to `{"a.b.c": value}`; different configurations give different results.

    Lists are values, as are mappings that are empty or have keys other than plain names.
    """
    flat: dict[str, Any] = {}
    for key, value in config.items():
        name = prefix + (key if _is_name(key) else json.dumps([key]))
        if isinstance(value, Mapping) and value and all(map(_is_name, value)):
            flat |= leaves(value, f"{name}.")
        else:
            flat[name] = value
    return flat


def _is_name(key: object) -> bool:
    return isinstance(key, str) and NAME.fullmatch(key) is not None


def choices(config: Mapping[str, Any]) -> dict[str, Any]:
    """The leaves that a run's figures may depend on, sorted.

    In classes of this package 1.0 is replaced by 1; others may tell them apart.
    """
    targets = _targets(config)
    return {
        key: _number(value) if _is_ours(key, targets) else value
        for key, value in sorted(leaves(config).items())
        if not _is_excluded(key, value) and key.partition(".")[0] not in EXCLUDED
    }


def chosen(config: Mapping[str, Any]) -> dict[str, Any]:
    """The choices without those whose value is neutral."""
    targets = _targets(config)
    return {k: v for k, v in choices(config).items() if not _is_neutral(k, v, targets)}


def _is_excluded(key: str, value: Any) -> bool:
    theirs = key == "data._target_" and not str(value).startswith(OURS)
    return key in EXCLUDED and not theirs


def _number(value: Any) -> Any:
    """An integral float as int, except -0.0."""
    whole = isinstance(value, float) and value.is_integer() and str(value) != "-0.0"
    return int(value) if whole else value


def question(config: Mapping[str, Any], arithmetic: str) -> dict[str, Any]:
    """The question of a run, sorted: its choices without the neutral ones.

    The arithmetic of an engine of this package replaces the keys of `engine`, so that engines with
    the same bits have the same question. For another engine the keys are kept beside it: the class
    may inherit the arithmetic and compute something else.
    """
    targets = _targets(config)
    asked = {k: v for k, v in chosen(config).items() if not _is_engine_of_ours(k, targets)}
    return dict(sorted({**asked, "engine": arithmetic}.items()))


def _targets(config: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in leaves(config).items() if key.endswith("._target_")}


def _is_engine_of_ours(key: str, targets: Mapping[str, Any]) -> bool:
    group = key.partition(".")[0]
    return group == "engine" and _is_ours("engine._target_", targets)


def _is_neutral(key: str, value: Any, targets: Mapping[str, Any]) -> bool:
    """Whether a choice is neutral. Only in classes of this package: others may have other defaults."""
    same = key in NEUTRAL and type(value) is type(NEUTRAL[key]) and value == NEUTRAL[key]
    return same and _is_ours(key, targets)


def _is_ours(key: str, targets: Mapping[str, Any]) -> bool:
    """Whether all classes that the key is an argument of are of this package."""
    parts = key.split(".")
    groups = [".".join(parts[:count]) for count in range(1, len(parts))]
    owners = [str(targets.get(f"{group}._target_", OURS)) for group in groups]
    return all(owner.startswith(OURS) for owner in owners)


def signature(
    config: Mapping[str, Any],
    data_digest: str,
    arithmetic: str,
    fork: Mapping[str, Any] | None = None,
) -> str:
    """sha256 of the canonical JSON of `question` and the data's digest.

    For a fork it includes the parent's signature and the step, unless the question is the parent's.
    """
    facts: dict[str, Any] = {"question": question(config, arithmetic), "data": data_digest}
    if fork is not None:
        same = signature(config, data_digest, arithmetic, fork.get("fork"))
        if same == fork["signature"]:
            return same
        facts["fork"] = [fork["signature"], fork["step"]]
    return sha256(json.dumps(_canonical(facts)).encode()).hexdigest()


def _canonical(value: Any) -> Any:
    """A mapping as a sorted list of pairs, since JSON converts all keys to strings."""
    if isinstance(value, Mapping):
        pairs = [[_canonical(key), _canonical(each)] for key, each in value.items()]
        return {"": sorted(pairs, key=json.dumps)}
    return [_canonical(each) for each in value] if isinstance(value, list | tuple) else value


def parameters_sha256(weights: Mapping[str, Sequence[float]]) -> str:
    """sha256 of all parameters, flat and in state-dict order, as little-endian doubles."""
    return sha256(b"".join(pack(f"<{len(flat)}d", *flat) for flat in weights.values())).hexdigest()


@cache
def libm_digest() -> str:
    """sha256 of a fixed set of results of `math`, to tell C libraries with different bits apart."""
    rng = Random(0)
    points = [rng.random() * 20 - 10 for _ in range(1000)]
    results = [math.exp(x) for x in points]
    results += [math.log(abs(x)) for x in points]
    results += [abs(x) ** -0.5 for x in points] + [0.85**t for t in range(1000)]
    results += [math.tanh(x) for x in points]
    results += [rng.gauss(0, 1) for _ in range(1000)]
    return sha256(pack(f"<{len(results)}d", *results)).hexdigest()


def fingerprint(engine: str, depends_on: Mapping[str, str]) -> dict[str, str]:
    """What a run's figures may depend on besides its question and its source."""
    return {
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "os": _system(),
        "machine": platform.machine(),
        "engine": engine,
        "libm": libm_digest(),
        **depends_on,
    }


@cache
def _system() -> str:
    """The operating system and its C library, for which Python's own file is searched."""
    return f"{platform.system()} {' '.join(platform.libc_ver())}".strip()


def git_state(folder: Path) -> dict[str, str]:
    """`commit`, `dirty` ("true" or "false") and `diff` of the checkout that contains `folder`, if any.

    Files that git does not track are the user's own: they make no checkout dirty.
    """

    def git(*words: str) -> str:
        # Without git's lock on the index, which a killed run would leave behind.
        no_lock = ["--no-optional-locks", "-c", "diff.autoRefreshIndex=false"]
        command = ["git", *no_lock, "-C", str(folder), *words]
        done = subprocess.run(command, capture_output=True, check=True)
        return done.stdout.decode(errors="replace")

    try:
        git("ls-files", "--error-unmatch", ".")  # fails inside another project's checkout
        commit = git("rev-parse", "HEAD").strip()
        status, diff = (
            git("status", "--porcelain", "--untracked-files=no"),
            git("diff", "HEAD", "--no-color", "--no-ext-diff"),
        )
    except (OSError, subprocess.CalledProcessError):
        return {}
    return {"commit": commit, "dirty": str(bool(status.strip())).lower(), "diff": diff}
