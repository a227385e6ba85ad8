"""The page about what is inside a run's model."""

import math
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest

from microgpt.ablation.inspect.look import END, Look, look
from microgpt.ablation.inspect.page import page
from microgpt.ablation.inspect.walk import Walk, walk
from microgpt.ablation.inspect.watching import Grid
from microgpt.core.evaluation import evaluate
from microgpt.run.folder import RunFolder
from microgpt.run.state import last_state
from microgpt.sample import rebuild, restored
from microgpt.trust import OURS_ALONE
from tests.conftest import Here
from tests.running import store, train_here

WORDS = ["trainer.num_steps=30", "engine=native", "model.n_layer=2", "data.val_fraction=0.2"]


@pytest.fixture(scope="module")
def run(store_template: Path, tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    """A finished run in a store."""
    outputs = tmp_path_factory.mktemp("inspected")
    (outputs / "mlflow.db").write_bytes(store_template.read_bytes())
    code, run = train_here(outputs, *WORDS)
    assert code == 0
    return run


class Tags(HTMLParser):
    """The open tags of a page; fails on one that is not closed."""

    VOID = ("meta", "br")

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attrs: object) -> None:
        if tag not in self.VOID and not tag.startswith(("rect", "circle", "polyline")):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag not in ("rect", "circle", "polyline"):
            assert self.open.pop() == tag


def checked(text: str) -> None:
    """A page is well-formed and needs nothing from elsewhere."""
    tags = Tags()
    tags.feed(text)
    assert tags.open == []
    assert not re.search(r"https?:|src=|<script|<link|@import|url\(", text)


def test_the_numbers_are_those_of_the_run(run: RunFolder) -> None:
    """Of its own engine, on the first held-out document."""
    seen = look(run, None, 1, OURS_ALONE)
    parts = rebuild(run)
    trainer = parts.trainer
    state = last_state(run, trainer)
    assert state is not None
    trainer.restore(state)
    score = evaluate(
        trainer.engine,
        trainer.model,
        trainer.weights,
        trainer.corpus,
        "val",
        eval_documents=1,
        batch_size=1,
    )
    assert seen.loss == pytest.approx(score.nats / score.tokens, abs=0, rel=1e-15)
    document = trainer.corpus.split.validation[0]
    assert "".join(filter(None, seen.targets)) == document + END
    for row, target, loss in zip(seen.probabilities, seen.targets, seen.losses):
        assert math.fsum(row) == pytest.approx(1)
        assert loss is not None
        assert row[seen.vocabulary.index(str(target))] == pytest.approx(math.exp(-loss))
    assert seen.walk.loss is not None
    assert seen.walk.loss.value[0][0] == pytest.approx(sum(filter(None, seen.losses[:4])) / 4)


def test_attention_looks_back_and_sums_to_one(run: RunFolder) -> None:
    seen = look(run, None, 1, OURS_ALONE)
    assert [len(heads) for heads in seen.attention] == [2, 2]
    for grid in [grid for heads in seen.attention for grid in heads]:
        for t, row in enumerate(grid):
            assert math.fsum(row) == pytest.approx(1)
            assert set(row[t + 1 :]) <= {0.0}
    assert seen.attention[0] != seen.attention[1]
    names = [name for name, _ in seen.activations]
    assert names[:3] == ["wte", "wpe", "layer0.attn_wq"]
    assert names[-1] == "lm_head"
    assert all(change > 0 for _, _, change in seen.gradients)


def test_a_page_of_a_run_in_a_store_alone_has_its_id(
    run: RunFolder, tmp_path: Path, here: Here
) -> None:
    there = f"sqlite:///{run.path.parent.parent}/mlflow.db"
    said, _ = here(tmp_path, "inspect", run.mlflow_run_id, "--uri", there)
    file = Path(said.split()[-1])
    assert file.name == "here.html"
    assert "Inside here" in file.read_text(encoding="utf-8")


def test_weights_that_are_too_large_are_named(outputs: Path, here: Here) -> None:
    words = ["optimizer=sgd", "optimizer.lr=1e200", "schedule=constant", "trainer.num_steps=1"]
    words += ["trainer.checkpoint_every=1", "trainer.eval_every=0", "trainer.eval_documents=0"]
    train_here(outputs, *words, "tracking=none", "sampling.num_samples=0")
    _, complained = here(outputs, "inspect", "here", "--prompt", "a", code=2)
    assert complained.count("\n") == 1
    assert "no samples from its last checkpoint" in complained


def test_a_page_of_a_prompt_is_written_and_logged(run: RunFolder, here: Here) -> None:
    outputs = run.path.parent.parent
    said, complained = here(outputs, "inspect", "here", "--prompt", "an")
    assert complained == ""
    file = Path(said.split()[-1])
    text = file.read_text(encoding="utf-8")
    checked(text)
    for heading in (
        "The next character",
        "Step by step",
        "Layer 1: #",
        "Attention",
        "Gradients",
        "Samples",
        "layer 1, head 1",
    ):
        assert heading in text
    logged = store(outputs).list_artifacts(run.mlflow_run_id, "inspect")
    assert [Path(each.path).name for each in logged] == [file.name]
    _, complained = here(outputs, "inspect", "here", "--prompt", "Ü", code=2)
    assert "not in the vocabulary" in complained


def test_runs_side_by_side_and_models_without_attention(tmp_path: Path, here: Here) -> None:
    """Of a bigram model and of running text, a page has what there is."""
    text = tmp_path / "text.txt"
    text.write_text("a <b> & 'c' of \"d\"\n" * 30)
    tiny = ["train", "tracking=none", "trainer.num_steps=5", "progress=false"]
    for name, words in (
        ("bigram", ["model=bigram"]),
        (
            "text",
            ["data=text", f"data.path={text}", "model/position=rope", "model.block_size=64"],
        ),
    ):
        here(tmp_path, *tiny, *words, f"hydra.run.dir={tmp_path}/runs/{name}")
    said, complained = here(tmp_path, "inspect", "bigram", "text")
    assert complained == ""
    page_of_both = Path(said.split()[-1]).read_text(encoding="utf-8")
    checked(page_of_both)
    assert "layer 0, head 0" in page_of_both  # of one of them
    assert "Embeddings by position" not in page_of_both  # rope has none, nor a bigram model
    _, complained = here(tmp_path, "inspect", "text", "--prompt", "a <b> & 'c' " * 5)
    assert complained == "microgpt: --prompt: its first 47 of 60 characters; a page has no more\n"
    alone = look(RunFolder(tmp_path / "runs/bigram"), "ann", 1, OURS_ALONE)
    assert alone.attention == []
    assert alone.losses[-1] is None
    assert isinstance(alone, Look)
    assert "Attention" not in page([alone])


def changed(rows: dict[str, Grid], name: str, i: int, j: int, by: float) -> dict[str, Grid]:
    """Weights of which one number is another."""
    grid = [list(row) for row in rows[name]]
    grid[i][j] += by
    return {**rows, name: grid}


def test_a_walk_has_the_loss_and_the_gradients_of_the_engine(run: RunFolder) -> None:
    """Of a whole document; a gradient is also what the loss does where the weight is changed."""
    trainer = restored(run, "here", OURS_ALONE).trainer
    batch = next(iter(trainer.corpus.held_out(trainer.corpus.split.validation, 1, 1, 99)))
    ops, weights = trainer.engine, trainer.weights
    rows = {name: ops.values(weight) for name, weight in weights.items()}
    loss = ops.mean(
        ops.cross_entropy(trainer.model(ops, weights, batch.tokens, batch.spans), batch.targets)
    )
    ops.backward(loss)
    engine = {name: ops.values(each) for name, each in ops.gradients(weights).items()}

    def walked(rows: dict[str, Grid]) -> Walk:
        return walk(trainer.model, rows, batch.tokens, batch.targets, len(batch.tokens))

    def loss_of(rows: dict[str, Grid]) -> float:
        found = walked(rows).loss
        assert found is not None
        return found.value[0][0]

    assert loss_of(rows) == pytest.approx(ops.values(loss)[0][0], rel=1e-13)
    seen = {weight.name: weight.gradient for weight in walked(rows).weights}
    assert seen.keys() == engine.keys()
    for name, gradient in seen.items():
        assert gradient is not None
        for own, other in zip(gradient, engine[name]):
            assert own == pytest.approx(other, rel=1e-9, abs=1e-13)
        slope = loss_of(changed(rows, name, 1, 2, 1e-5)) - loss_of(changed(rows, name, 1, 2, -1e-5))
        assert slope / 2e-5 == pytest.approx(gradient[1][2], rel=1e-5, abs=1e-9)


def test_runs_side_by_side_have_one_scale(run: RunFolder) -> None:
    """Twice as much is twice as long, and twice as dark."""
    one = look(run, "an", 1, OURS_ALONE)
    two = replace(
        one,
        gradients=[(name, 2 * size, 2 * change) for name, size, change in one.gradients],
        activations=[(name, [2 * x for x in row]) for name, row in one.activations],
    )
    text = page([one, two])
    for heading in ("Gradients", "Weights"):
        section = text.partition(f"<h2>{heading}</h2>")[2].partition("<h2>")[0]
        first, second = (
            re.findall(r'rect [^>]* width="([\d.]+)"', part) for part in halves(section)
        )
        assert (max(map(float, first)), max(map(float, second))) == (100, 200)
    section = text.partition("<h2>Activations</h2>")[2].partition("<h2>")[0]
    first, second = (re.findall(r'fill-opacity="([\d.]+)"', part) for part in halves(section))
    assert (max(first), max(second)) == ("0.500", "1.000")


def halves(section: str) -> list[str]:
    """The pictures of two runs."""
    return section.split("<svg")[1:]
