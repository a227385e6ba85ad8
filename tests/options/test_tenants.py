"""Ten configurations that people ask for, fifty steps of each, the same on every engine."""

from pathlib import Path

import pytest

from tests.options.checks import a_resumed_run_is_the_run, the_engines_agree
from tests.options.choices import DOCUMENTS, Words
from tests.options.subject import subject

TENANTS: dict[str, Words] = {
    "a norm with a gain": ("model/norm=rmsnorm_gain", "model.norm_final=true"),
    "post-norm": ("model/block=post_norm",),
    "no residual stream": ("model.block.residual=0",),
    "projections that start at zero": ("model/init=zero_projections",),
    "z-loss": ("loss=z_loss", "loss.weight=0.1"),
    "gradient accumulation": ("trainer.accumulate=2", "trainer.batch_size=1"),
    "Lion": ("optimizer=lion",),
    "Muon": ("optimizer=muon",),
    "running text": ("data=text",),
    "bigram": ("model=bigram",),
}


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("text") / "names.txt"
    file.write_text("\n".join(DOCUMENTS))
    return file


@pytest.mark.slow
@pytest.mark.parametrize("name", TENANTS)
def test_fifty_steps_on_every_engine(name: str, text: Path) -> None:
    trained = subject(text, TENANTS[name], steps=50)
    the_engines_agree(trained)
    a_resumed_run_is_the_run(trained)
