"""Every option of `conf/` is held to what `checks.py` says, alone and in combinations.

A new option is found by its file: nothing is to be added here.
"""

from collections.abc import Callable
from pathlib import Path

import pytest

from microgpt.terminal import ConfigError
from tests.options.checks import CHECKS, the_engines_agree
from tests.options.choices import CONF, DOCUMENTS, IMPOSSIBLE, Words, combinations, options
from tests.options.subject import Subject, subject

Check = Callable[[Subject], None]
ALONE: list[Words] = [(f"{group}={option}",) for group, option in options(CONF)]
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
FEW, MANY, ALL = 16, 90, len(COMBINED)

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


@checks
@pytest.mark.parametrize("words", ALONE + SET, ids=" ".join)
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


@pytest.mark.slow
@checks
@pytest.mark.parametrize("words", COMBINED[FEW:MANY], ids=range(FEW, MANY))
def test_many_combinations(check: Check, words: Words, text: Path) -> None:
    check(subject(text, words))


@pytest.mark.soak
@checks
@pytest.mark.parametrize("words", COMBINED[MANY:], ids=range(MANY, ALL))
def test_more_combinations(check: Check, words: Words, text: Path) -> None:
    check(subject(text, words))


@pytest.mark.slow
@pytest.mark.parametrize("words", ALONE + SET, ids=" ".join)
def test_fifty_steps_of_an_option(words: Words, text: Path) -> None:
    the_engines_agree(subject(text, words, steps=50))
