"""Documents, the split, batches."""

from random import Random

import pytest

from microgpt.core.check import BadValue
from microgpt.core.data import digest, make_batch, make_corpus, read_documents, split_documents
from microgpt.core.tokenizer import CharTokenizer, UnknownCharacter
from tests.golden.check import HERE

NAMES = read_documents((HERE / "names_tiny.txt").read_text(encoding="utf-8"))


def test_bos_begins_and_ends_a_document() -> None:
    tokenizer = CharTokenizer("banana")
    assert tokenizer.characters == ["a", "b", "n"]
    assert tokenizer.document("nab") == [3, 2, 0, 1, 3]
    assert tokenizer.decode([2, 0, 1]) == "nab"
    with pytest.raises(UnknownCharacter, match="'z'"):
        tokenizer.encode("zax")


def test_the_split_depends_on_documents_and_split_seed_alone() -> None:
    documents = [f"name{i}" for i in range(2000)]
    train, held_out = split_documents(documents, val_fraction=0.1, split_seed=0)
    assert 150 < len(held_out) < 250
    assert sorted(train + held_out) == sorted(documents)
    again = split_documents(documents[::-1], val_fraction=0.1, split_seed=0)[1]
    assert again == held_out
    more = split_documents(documents, val_fraction=0.2, split_seed=0)[1]
    assert more[: len(held_out)] == held_out
    assert split_documents(documents, val_fraction=0.1, split_seed=1)[1] != held_out
    twice = split_documents(documents * 2, val_fraction=0.1, split_seed=0)
    assert not set(twice[0]) & set(twice[1])


def test_no_held_out_documents_and_none_to_train_on() -> None:
    assert split_documents(NAMES, val_fraction=0, split_seed=0) == (NAMES, [])
    with pytest.raises(BadValue, match=r"val_fraction=0.9999"):
        split_documents(["a"], val_fraction=0.9999, split_seed=0)


def test_a_batch_is_rows_with_spans() -> None:
    batch = make_batch(["ab", "b", "abab"], CharTokenizer("ab"), block_size=3)
    assert batch.tokens == [2, 0, 1, 2, 1, 2, 0, 1]
    assert batch.targets == [0, 1, 2, 1, 2, 0, 1, 0]
    assert batch.spans == [(0, 3), (3, 5), (5, 8)]


def test_documents_follow_each_other_and_begin_again() -> None:
    corpus = make_corpus(["a", "b", "c"], val_fraction=0, split_seed=0, rng=Random(0))
    seen = [corpus.batch(step, 2, 4).tokens for step in range(3)]
    ids = [token for tokens in seen for token in tokens if token != 3]
    assert ids[:3] == ids[3:]
    assert sorted(ids[:3]) == [0, 1, 2]


def test_the_digest_is_that_of_a_clean_file() -> None:
    from hashlib import sha256

    assert digest(NAMES) == sha256((HERE / "names_tiny.txt").read_bytes()).hexdigest()
