"""What a run is: which question it answers, and what its figures depend on beside the code."""

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
# What does not change a run's figures. The data count by their digest, wherever they come from; but a
# class of the user's may divide them in another way.
EXCLUDED = {
    *("hydra", "paths", "tracking", "launcher", "progress", "resume", "skip", "sweep"),
    *("experiment", "description", "data.path", "data._target_"),
}
# A new key's value that computes what was computed before there was the key: with it, it drops out
# of the question, and the runs of old keep their signatures. `1` is neither true nor "1".
NEUTRAL: dict[str, Any] = {
    "loss._target_": "microgpt.core.loss.cross_entropy.CrossEntropy",
    "model.block._target_": "microgpt.core.layers.block.pre_norm.PreNorm",
    "model.block.residual": 1,
    "model.norm_embd": True,
    "model.norm_final": False,
    "trainer.accumulate": 1,
    "data.test_fraction": 0,
    "data.split": "hash",
}
NAME = re.compile(r"[\w-]+")


def leaves(config: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """The configuration as `{"a.b.c": value}`, which no other configuration gives.

    Lists are values. So are empty mappings, and those with keys that are no plain names.
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
    """The leaves that a run's figures may depend on, sorted; 1.0 counts as 1."""
    return {
        key: _number(value)
        for key, value in sorted(leaves(config).items())
        if not _is_excluded(key, value) and key.partition(".")[0] not in EXCLUDED
    }


def _is_excluded(key: str, value: Any) -> bool:
    theirs = key == "data._target_" and not str(value).startswith(OURS)
    return key in EXCLUDED and not theirs


def _number(value: Any) -> Any:
    """A whole float as the integer; -0.0 has none."""
    whole = isinstance(value, float) and value.is_integer() and str(value) != "-0.0"
    return int(value) if whole else value


def question(config: Mapping[str, Any], arithmetic: str) -> dict[str, Any]:
    """What a run asks, sorted: its choices, less those that are neutral.

    Engines with the same bits ask the same: for all keys of `engine` stands its arithmetic.
    """
    targets = {key: value for key, value in leaves(config).items() if key.endswith("._target_")}
    asked = {
        key: value
        for key, value in choices(config).items()
        if key.partition(".")[0] != "engine" and not _is_neutral(key, value, targets)
    }
    return dict(sorted({**asked, "engine": arithmetic}.items()))


def _is_neutral(key: str, value: Any, targets: Mapping[str, Any]) -> bool:
    """Whether a choice drops out: in classes of ours alone, since another's may have other defaults."""
    parts = key.split(".")
    groups = [".".join(parts[:count]) for count in range(1, len(parts))]
    owners = [str(targets.get(f"{group}._target_", OURS)) for group in groups]
    same = key in NEUTRAL and type(value) is type(NEUTRAL[key]) and value == NEUTRAL[key]
    return same and all(owner.startswith(OURS) for owner in owners)


def signature(
    config: Mapping[str, Any],
    data_digest: str,
    arithmetic: str,
    fork: Mapping[str, Any] | None = None,
) -> str:
    """sha256 over the canonical JSON of `question` and the data's digest.

    That of a fork names the parent's signature and the step, unless the fork asks what its parent asked.
    """
    facts: dict[str, Any] = {"question": question(config, arithmetic), "data": data_digest}
    if fork is not None:
        same = signature(config, data_digest, arithmetic, fork.get("fork"))
        if same == fork["signature"]:
            return same
        facts["fork"] = [fork["signature"], fork["step"]]
    return sha256(json.dumps(_canonical(facts)).encode()).hexdigest()


def _canonical(value: Any) -> Any:
    """What JSON tells apart: a mapping as its sorted pairs, since JSON makes strings of all keys."""
    if isinstance(value, Mapping):
        pairs = [[_canonical(key), _canonical(each)] for key, each in value.items()]
        return {"": sorted(pairs, key=json.dumps)}
    return [_canonical(each) for each in value] if isinstance(value, list | tuple) else value


def parameters_sha256(weights: Mapping[str, Sequence[float]]) -> str:
    """sha256 over all parameters, flat and in state-dict order, as little-endian doubles."""
    return sha256(b"".join(pack(f"<{len(flat)}d", *flat) for flat in weights.values())).hexdigest()


@cache
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
