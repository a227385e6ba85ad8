"""What the figures were measured on and with."""

import os
import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import numpy as np

from microgpt.native import problem
from microgpt.native.library import facts as native


def facts() -> dict[str, str]:
    """Processor, interpreter, compiler and libraries, by what they are."""
    blas = np.show_config(mode="dicts")["Build Dependencies"]["blas"]
    return {
        "processor": f"{processor()}, {os.cpu_count()} cores, {platform.machine()}",
        "Python": f"{platform.python_implementation()} {platform.python_version()}",
        "compiler": problem() or native()["compiler"],
        "NumPy": f"{np.__version__} with {blas['name']} {blas['version']}",
        "PyTorch": installed("torch"),
    }


def processor() -> str:
    """Its name, and the widest registers that it says it has."""
    try:
        lines = Path("/proc/cpuinfo").read_text().split("\n\n")[0].splitlines()
    except OSError:
        return platform.processor()
    told = {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in lines)}
    flags = told.get("flags", "").split()
    widest = next((f" ({f.upper()})" for f in ("avx512f", "avx2", "avx") if f in flags), "")
    numbers = "/".join(told.get(key, "?") for key in ("cpu family", "model", "stepping"))
    return f"{told.get('model name', platform.machine())}, model {numbers}{widest}"


def installed(name: str) -> str:
    """The version of a distribution."""
    try:
        return version(name)
    except PackageNotFoundError:
        return "not installed"
