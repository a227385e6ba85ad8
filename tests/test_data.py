"""Documents and running text: the split in three parts, batches, the digest."""

from collections.abc import Sequence
from random import Random

import pytest

from microgpt.core.assemble import make_corpus
from microgpt.core.check import BadValue
from microgpt.core.data import (
    Blocks,
    Documents,
    Split,
    digest,
    make_batch,
    split_by_hash,
    split_shuffled,
    split_text,
)
from microgpt.core.source import Source
from microgpt.core.streams.independent import Independent
from microgpt.core.tokenizer import CharTokenizer, UnknownCharacter
from microgpt.vector.engine import VectorEngine
from tests.models import NAMES, trainer_of

MANY = [f"name{i}" for i in range(2000)]


def by_hash(documents: list[str], val: float, test: float = 0.0, seed: int = 0) -> Split:
    return split_by_hash(documents, val_fraction=val, test_fraction=test, split_seed=seed)


def test_bos_begins_and_ends_a_document() -> None:
    tokenizer = CharTokenizer("banana")
    assert tokenizer.characters == ["a", "b", "n"]
    assert tokenizer.document("nab") == [3, 2, 0, 1, 3]
    assert tokenizer.decode([2, 0, 1]) == "nab"
    with pytest.raises(UnknownCharacter, match="'z'"):
        tokenizer.encode("zax")


def test_the_split_depends_on_documents_and_split_seed_alone() -> None:
    train, held_out, _ = by_hash(MANY, 0.1)
    assert 150 < len(held_out) < 250
    assert sorted(train + held_out) == sorted(MANY)
    assert by_hash(MANY[::-1], 0.1).validation == held_out
    assert by_hash(MANY, 0.2).validation[: len(held_out)] == held_out
    assert by_hash(MANY, 0.1, seed=1).validation != held_out
    twice = by_hash(MANY * 2, 0.1, 0.1)
    assert not set(twice.train) & set(twice.validation + twice.test)
    assert not set(twice.validation) & set(twice.test)


def test_a_test_part_takes_from_the_training_part_alone() -> None:
    without, with_test = by_hash(MANY, 0.1), by_hash(MANY, 0.1, 0.1)
    assert with_test.validation == without.validation
    assert 150 < len(with_test.test) < 250
    assert sorted(with_test.train + with_test.test) == sorted(without.train)


def test_the_shuffled_split_is_that_of_makemore() -> None:
    """random.seed(42); random.shuffle(words); n1 = int(.8 * len(words)); n2 = int(.9 * len(words))"""
    words = list(MANY)
    Random(42).shuffle(words)
    split = split_shuffled(MANY, val_fraction=0.1, test_fraction=0.1, split_seed=42)
    assert split == (words[:1600], words[1600:1800], words[1800:])
    assert MANY[0] == "name0"  # the caller's list is as it was


def test_a_text_is_cut_in_three() -> None:
    split = split_text(["abcdefghij"], val_fraction=0.2, test_fraction=0.1)
    assert split == (["abcdefg"], ["hi"], ["j"])
    assert split_text(["abc"], val_fraction=0, test_fraction=0) == (["abc"], [], [])


def test_no_held_out_documents_and_none_to_train_on() -> None:
    assert by_hash(NAMES, 0) == (NAMES, [], [])
    with pytest.raises(BadValue, match=r"data.val_fraction=0.9999"):
        trainer_of(VectorEngine(), documents=["a"], val_fraction=0.9999)
    with pytest.raises(BadValue, match=r"data.test_fraction=0.9999: it leaves no document"):
        trainer_of(VectorEngine(), documents=["a"], val_fraction=0, test_fraction=0.9999)


@pytest.mark.parametrize(
    ("change", "key"),
    [
        ({"val_fraction": 1}, "val_fraction"),
        ({"test_fraction": -0.1}, "test_fraction"),
        ({"val_fraction": 0.6, "test_fraction": 0.4}, "test_fraction"),
        ({"split": "half"}, "split"),
        ({"split_seed": 1.5}, "split_seed"),
    ],
)
def test_a_source_refuses_what_it_cannot_split(change: dict[str, object], key: str) -> None:
    given = {"val_fraction": 0.1, "test_fraction": 0.0, "split": "hash", "split_seed": 0}
    with pytest.raises(BadValue) as refused:
        Source(**given | change)  # type: ignore[arg-type]
    assert refused.value.key == key


def test_a_batch_is_rows_with_spans() -> None:
    encode = CharTokenizer("ab").document
    batch = make_batch([encode(text)[:4] for text in ("ab", "b", "abab")])
    assert batch.tokens == [2, 0, 1, 2, 1, 2, 0, 1]
    assert batch.targets == [0, 1, 2, 1, 2, 0, 1, 0]
    assert batch.spans == [(0, 3), (3, 5), (5, 8)]


def test_documents_follow_each_other_and_begin_again() -> None:
    corpus = Documents(Split(["a", "b", "c"], [], []), CharTokenizer("abc"), Random(0))
    seen = [corpus.batch(number, 2, 4) for number in range(3)]
    ids = [token for batch in seen for token in batch.tokens if token != 3]
    assert ids[:3] == ids[3:]
    assert sorted(ids[:3]) == [0, 1, 2]
    assert corpus.tokens(3, 2, 4) == sum(len(batch.tokens) for batch in seen)


def test_held_out_documents_and_those_that_are_cut() -> None:
    corpus = Documents(Split(["a"], ["ab", "b", "abab"], []), CharTokenizer("ab"), Random(0))
    held_out = list(corpus.held_out(corpus.split.validation, 3, 2, 3))
    assert [len(batch.spans) for batch in held_out] == [2, 1]
    assert held_out[1].targets == [0, 1, 0]
    assert len(list(corpus.held_out(corpus.split.validation, 1, 2, 3))) == 1
    assert corpus.cut(3) == 1
    assert corpus.cut(5) == 0


TEXT = "the quick brown fox\njumps over the lazy dog\n"


def blocks(text: str = TEXT, seed: int = 0) -> Blocks:
    split = split_text([text], val_fraction=0.2, test_fraction=0.2)
    return Blocks(split, CharTokenizer(text), Random(seed))


def test_windows_of_running_text() -> None:
    corpus = blocks()
    text = corpus.tokenizer.decode
    for number in range(20):
        batch = corpus.batch(number, 3, 5)
        assert batch.spans == [(0, 5), (5, 10), (10, 15)]
        for start, stop in batch.spans:
            window = text([*batch.tokens[start:stop], batch.targets[stop - 1]])
            assert window in corpus.split.train[0]
    seen = [corpus.batch(number, 1, 5).tokens for number in range(20)]
    assert len({tuple(tokens) for tokens in seen}) > 5
    assert seen == [blocks().batch(number, 1, 5).tokens for number in range(20)]
    assert seen != [blocks(seed=1).batch(number, 1, 5).tokens for number in range(20)]
    assert corpus.tokens(4, 3, 5) == 60


def test_held_out_windows_follow_one_another() -> None:
    corpus = blocks()
    part = corpus.split.test
    batches = list(corpus.held_out(part, 99, 2, 4))
    targets = [i for batch in batches for i in batch.targets]
    assert corpus.tokenizer.decode(targets) == part[0][1:]
    (first,) = corpus.held_out(part, 1, 2, 4)
    assert first.targets == targets[:4]


def test_a_sample_of_running_text_begins_a_line() -> None:
    corpus = blocks()
    assert corpus.tokenizer.decode([corpus.begin]) == "\n"
    assert blocks("abcdefghij" * 3).begin == 10


def test_a_text_that_leaves_nothing_to_predict_is_refused() -> None:
    class Running(Source):
        corpus = Blocks

        def split(self, documents: Sequence[str]) -> Split:
            return split_text(documents, val_fraction=0.5, test_fraction=0.0)

    source = Running(val_fraction=0.5, test_fraction=0.0, split="hash", split_seed=0)
    with pytest.raises(BadValue, match=r"val_fraction=0.5: it leaves no two characters"):
        make_corpus(source, ["abc"], Independent(seed=0))
    assert make_corpus(source, ["abcd"], Independent(seed=0)).tokens(1, 1, 9) == 1


def test_a_text_shorter_than_a_window() -> None:
    corpus = blocks("abcde")
    assert corpus.tokenizer.decode(corpus.batch(0, 1, 16).tokens) == "ab"
    assert corpus.tokens(1, 1, 16) == 2


def test_no_two_lists_of_documents_have_one_digest() -> None:
    lists = [
        ["ab", "c"],
        ["a", "bc"],
        ["abc"],
        ["ab\nc"],
        ["ab", "", "c"],
        ["c", "ab"],
        ["äb", "c"],
    ]
    assert len({digest(documents, "documents") for documents in lists}) == len(lists)
    assert digest(["ab"], "documents") != digest(["ab"], "blocks")
    assert digest(["ab"], "documents") == digest(("ab",), "documents")
