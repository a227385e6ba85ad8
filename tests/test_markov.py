"""Words of a known process: their probabilities, their entropy, and the loss above it."""

import math
from itertools import product
from pathlib import Path
from typing import Any

import pytest

from microgpt.core.check import BadValue
from microgpt.core.events import Stepped
from microgpt.core.layers.init.normal import Normal
from microgpt.core.models.bigram import Bigram
from microgpt.core.optim.adam import Adam
from microgpt.core.source import Source
from microgpt.datasets.markov import Markov
from microgpt.datasets.shakespeare import Shakespeare
from microgpt.native import engine as native
from tests.models import events_of, trainer_of

PROCESS: dict[str, Any] = {
    "count": 4000,
    "letters": 3,
    "order": 2,
    "sharpness": 1.0,
    "max_length": 4,
    "process_seed": 1,
    "val_fraction": 0.1,
    "test_fraction": 0.1,
    "split": "shuffled",
    "split_seed": 0,
}


def markov(**changes: Any) -> Markov:
    return Markov(**PROCESS | changes)


def every_word() -> list[str]:
    return ["".join(letters) for n in range(1, 5) for letters in product("abc", repeat=n)]


def test_the_probabilities_of_all_words_add_up_to_one() -> None:
    for order in (1, 2, 3):
        source = markov(order=order)
        assert math.fsum(math.exp(-source.nats(word)) for word in every_word()) == pytest.approx(1)


def test_the_entropy_rate_is_that_of_all_words() -> None:
    source = markov()
    shares = {word: math.exp(-source.nats(word)) for word in every_word()}
    nats = math.fsum(share * source.nats(word) for word, share in shares.items())
    tokens = math.fsum(share * (len(word) + 1) for word, share in shares.items())
    assert source.facts()["entropy_rate"] == pytest.approx(nats / tokens)


def test_words_come_as_often_as_they_should() -> None:
    source, words = markov(), markov().documents()
    assert len(words) == 4000
    for word in every_word():
        share = math.exp(-source.nats(word))
        allowed = 5 * math.sqrt(share / 4000)  # five standard deviations
        assert words.count(word) / 4000 == pytest.approx(share, abs=allowed), word
    assert words == markov(split_seed=3).documents() != markov(process_seed=2).documents()


@pytest.mark.parametrize(
    "change", [{"letters": 1}, {"letters": 27}, {"order": 0}, {"order": 4}, {"count": 0}]
)
def test_a_process_that_cannot_be_is_refused(change: dict[str, int]) -> None:
    with pytest.raises(BadValue, match=f"{next(iter(change))}="):
        markov(**change)


def excesses(source: Source, **changes: Any) -> list[float]:
    """`val/excess` of a table of bigrams, at each evaluation."""
    settings = {"num_steps": 200, "eval_every": 100, "eval_documents": 400, "batch_size": 16}
    run = trainer_of(native(), source.documents(), **settings | changes)
    run.corpus.nats = source.nats
    block_size = run.model.dims.block_size
    run.model = Bigram(vocab_size=4, block_size=block_size, init=Normal(std=0.08))
    run.__post_init__()
    rows = [event.metrics for event in events_of(run) if isinstance(event, Stepped)]
    return [row["val/excess"] for row in rows if "val/excess" in row]


def test_a_bigram_table_learns_a_chain_of_order_one_and_no_other() -> None:
    """But for the length at which a word ends with certainty, which few reach."""
    found = {}
    for order in (1, 2):
        optimizer = Adam(lr=0.1, beta1=0.9, beta2=0.99, eps=1e-8)
        split = {"val_fraction": 0.1, "split": "shuffled", "block_size": 24}
        source = markov(order=order, max_length=23)
        found[order] = excesses(source, optimizer=optimizer, **split)
    assert found[1][0] > found[1][-1]
    assert abs(found[1][-1]) < 0.01
    assert found[2][-1] > 0.05


def test_there_is_no_excess_over_words_that_are_cut() -> None:
    assert excesses(markov(max_length=9), val_fraction=0.1, num_steps=1) == []


def test_shakespeare_may_be_a_copy(tmp_path: Path) -> None:
    """Without one it is downloaded; the test of wrong inputs has no network."""
    (tmp_path / "verse.txt").write_text("Noble Sebastian,\n")
    source = Shakespeare(path=str(tmp_path / "verse.txt"), val_fraction=0.1, test_fraction=0.0)
    assert (source.name, source.documents()) == ("verse", ["Noble Sebastian,\n"])
    assert Shakespeare(path=None, val_fraction=0.1, test_fraction=0.0).name == "shakespeare"
