"""The original program's figures, with `==`; to 1e-9 where `check` says that libm is another."""

from pathlib import Path

import pytest

from tests.golden.check import FILES, SAME_LIBM, check


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_the_original_to_the_last_bit(file: Path) -> None:
    check(file)
    if not SAME_LIBM:
        pytest.skip("met to 1e-9 only: this machine's libm has other last bits")


def test_there_are_golden_files() -> None:
    assert len(FILES) == 8
