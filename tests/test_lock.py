"""The lock file of a report."""

import json
from pathlib import Path

import pytest

from microgpt.ablation.evidence.lock import LOCK, config_of, digest, read_lock
from microgpt.run.reading import BadRecord
from tests.sweeps import (
    CONFIG,
    HEADS,
    Made,
    config_for,
)


def test_the_lock(told: tuple[Path, str, Made]) -> None:
    folder, _, made = told
    lock = read_lock(folder / LOCK)
    assert lock["sweep"]["id"] == made.id
    assert lock["ablation"] == made.ablation
    assert lock["data"]["documents"] == 10
    assert lock["fingerprint"] == {"python": "CPython 3.11.7"}
    assert len(lock["runs"]) == 25
    one = next(r for r in lock["runs"] if (r["arm"], r["seed"]) == ("n_head=8", 3))
    assert one["overrides"] == {HEADS: 8, "seed": 3}
    assert one["metrics"]["val/loss"] == made.loss({HEADS: 8}, 3)
    assert not [key for key in one["metrics"] if key.startswith("cost/")]
    assert {"signature", "source", "parameters_sha256", "samples_sha256"} <= one.keys()
    text = (folder / LOCK).read_text()
    assert "/somewhere" not in text
    assert "cost/" not in text
    job = {"differs": {HEADS: "8", "seed": "3"}}
    own = config_of(lock, one)
    aside = ("paths", "tracking", "progress")
    expected = config_for(made, job)
    assert {k: v for k, v in own.items() if k not in aside} == {
        k: v for k, v in expected.items() if k not in aside
    }


def test_a_changed_lock_is_caught(told: tuple[Path, str, Made], tmp_path: Path) -> None:
    text = (told[0] / LOCK).read_text()
    file = tmp_path / LOCK
    for before, after in [('"supported"', '"refuted"'), ('"mean": 2.', '"mean": 1.')]:
        assert before in text
        file.write_text(text.replace(before, after, 1))
        with pytest.raises(BadRecord, match="was changed by hand"):
            read_lock(file)
    file.write_text("{")
    with pytest.raises(BadRecord, match="is not JSON"):
        read_lock(file)
    file.write_text("[]")
    with pytest.raises(BadRecord, match="must hold keys"):
        read_lock(file)
    with pytest.raises(BadRecord, match="No such file"):
        read_lock(tmp_path / "none.json")


def test_a_lock_says_what_a_class_leaves_out() -> None:
    from microgpt.ablation.evidence.lock import differences

    own = json.loads(json.dumps(CONFIG))
    own["model"]["norm"] = {"_target_": "microgpt.core.layers.norm.none.NoNorm"}
    own["optimizer"]["lr"] = 1
    told = differences({**CONFIG, "optimizer": {**CONFIG["optimizer"], "lr": 1.0}}, own)
    assert told["removed"] == ["model.norm.eps"]
    assert told["overrides"] == {
        "model.norm._target_": "microgpt.core.layers.norm.none.NoNorm",
        "optimizer.lr": 1,  # not 1.0: it is what the run's own configuration has
    }
    lock = {"config": CONFIG}
    assert config_of(lock, told)["model"] == own["model"]


def test_a_lock_says_which_parts_a_model_lacks() -> None:
    from microgpt.ablation.evidence.lock import differences

    own = json.loads(json.dumps(CONFIG))
    own["model"] = {"_target_": "microgpt.core.models.bigram.Bigram", "empty": {}}
    told = differences(CONFIG, own)
    assert config_of({"config": CONFIG}, told)["model"] == own["model"]


def test_the_digest_is_of_everything_else() -> None:
    one = {"a": 1, "b": [1.5, None]}
    assert digest(one) == digest({"digest": "x", "b": [1.5, None], "a": 1})
    assert digest(one) != digest({"a": 2, "b": [1.5, None]})
