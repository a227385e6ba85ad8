"""Every option of `conf/` is held to what `checks.py` says, alone and in combinations.

A new option is found by its file: nothing is to be added here.
"""

from collections.abc import Callable
from pathlib import Path

import pytest

from microgpt.terminal import ConfigError
from tests.options.checks import CHECKS, the_engines_agree
from tests.options.choices import (
    CONF,
    DOCUMENTS,
    IMPOSSIBLE,
    Words,
    combinations,
    defaults,
    options,
)
from tests.options.subject import Subject, subject

Check = Callable[[Subject], None]
# A default changes nothing where it is chosen, and an engine is replaced by each in turn.
SAME = {(group, option) for group, option in options(CONF) if group == "engine"} | defaults()
ALONE: list[Words] = [
    (),
    *((f"{group}={option}",) for group, option in options(CONF) if (group, option) not in SAME),
]
SET: list[Words] = [  # values that are as good as an option
    ("model.block.residual=0",),
    ("model/block=post_norm", "model.block.residual=2"),
    ("model.norm_final=true", "model.norm_embd=false", "model/norm=rmsnorm_gain"),
    ("model.n_layer=0",),
    ("model.norm_qk=true", "model.bias=true", "model/norm=rmsnorm_gain"),
    ("trainer.accumulate=4", "trainer.clip_norm=0.1"),
    ("trainer.average=0.5", "trainer.train_length=3"),
    ("optimizer=sgd", "optimizer.momentum=0.9"),
]
COMBINED = list(combinations(330))
FEW, MANY, ALL = 8, 16, len(COMBINED)

checks = pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)


@pytest.fixture(scope="session")
def text(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file to train on: documents line by line, or running text."""
    file = tmp_path_factory.mktemp("text") / "names.txt"
    file.write_text("\n".join(DOCUMENTS))
    return file


def test_there_are_options_in_every_group() -> None:
    groups = {group for group, _ in options(CONF)}
    assert {"data", "engine", "loss", "model", "optimizer", "schedule", "streams"} <= groups
    assert len(ALONE) > 30
    assert {word.partition("=")[0] for words in COMBINED[:FEW] for word in words} >= groups
    assert {group for group, _ in defaults()} == groups


@checks
@pytest.mark.parametrize("words", ALONE + SET, ids=lambda words: " ".join(words) or "defaults")
def test_an_option_alone(check: Check, words: Words, text: Path) -> None:
    check(subject(text, words))


@pytest.mark.parametrize("words", IMPOSSIBLE, ids=" ".join)
def test_what_makes_no_sense_together_is_refused_in_a_line(words: Words, text: Path) -> None:
    with pytest.raises(ConfigError) as refused:
        subject(text, words).build("scalar", DOCUMENTS)
    line = str(refused.value)
    assert "\n" not in line
    assert any(line.startswith(word.partition("=")[0].replace("/", ".")) for word in words)


@checks
@pytest.mark.parametrize("words", COMBINED[:FEW], ids=range(FEW))
def test_a_combination(check: Check, words: Words, text: Path) -> None:
    check(subject(text, words))


@pytest.mark.parametrize(
    "words",
    [
        *(pytest.param(words, marks=pytest.mark.slow) for words in COMBINED[FEW:MANY]),
        *(pytest.param(words, marks=pytest.mark.soak) for words in COMBINED[MANY:]),
    ],
    ids=range(FEW, ALL),
)
def test_many_combinations(words: Words, text: Path) -> None:
    for check in CHECKS:
        check(subject(text, words))


@pytest.mark.soak
@pytest.mark.parametrize("words", ALONE + SET, ids=lambda words: " ".join(words) or "defaults")
def test_fifty_steps_of_an_option(words: Words, text: Path) -> None:
    the_engines_agree(subject(text, words, steps=50))
