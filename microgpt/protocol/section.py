"""The `ablation` section of an experiment: what is asked, of whom it was learnt, what is claimed.

question      one sentence
source        papers, with arXiv numbers
expectation   what the field expects, written before the run
baseline      {key: value, ...}: the one arm that has these values; others are compared with it
matters       the smallest difference in held-out loss, in nats per token, that would matter
claim         what would support or refute the expectation: see claims.py; without it, no verdict
part          the held-out documents that judge: `validation`, or `test`, which needs data.test_fraction
stopping      `fixed`, or `sequential`: see stopping.py
axis          the key on the x axis of the figures; one that ends in `.lr` makes the sweep one of
              learning rates: an arm whose best rate is the grid's first or last is not ranked
tuning        the experiment whose sweep, over other seeds, chose each arm's `optimizer.lr`
fit           `n_params`: a power law of held-out loss in the number of parameters
robustness    experiments that ask the same of another split or size; their verdicts stand beside this one
limits        what the result does not say; without it, a sentence that names the scale
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from microgpt.core.check import BadValue, choice, nonnegative
from microgpt.protocol.stopping import FIXED, INTERVALS

TEXTS = ("question", "source", "expectation")
REQUIRED = (*TEXTS, "baseline", "matters")
KEYS = (*REQUIRED, "claim", "part", "stopping", "axis", "tuning", "fit", "robustness", "limits")
RATE = "optimizer.lr"  # what a tuning sweep chooses
FIGURES = {"validation": "val/loss", "test": "test/loss"}  # the metric that judges, by part


@dataclass(frozen=True)
class Question:
    """The section, checked; the claim stays as it was written, for claims.py."""

    question: str
    source: str
    expectation: str
    baseline: Mapping[str, Any]
    matters: float
    claim: Mapping[str, Any] | None = None
    part: str = "validation"
    stopping: str = FIXED
    axis: str | None = None
    tuning: str | None = None
    fit: str | None = None
    robustness: Sequence[str] = ()
    limits: str | None = None

    @property
    def figure(self) -> str:
        """The metric that judges."""
        return FIGURES[self.part]

    @property
    def of_rates(self) -> bool:
        """Whether the sweep is a grid of learning rates."""
        return self.axis is not None and self.axis.endswith(".lr")


def question(section: object) -> Question:
    """The section as a Question. Raises BadValue under the key's full name."""
    if not isinstance(section, Mapping):
        raise BadValue("ablation", section, "must hold keys, as ablation.question")
    for key in section:
        if key not in KEYS:
            raise BadValue(
                f"ablation.{key}", section[key], f"no such key; there are {', '.join(KEYS)}"
            )
    given = {key: value for key, value in section.items() if value is not None}
    for key in REQUIRED:
        if key not in given:
            raise BadValue(f"ablation.{key}", None, "must be there")
    for key in {*TEXTS, "axis", "tuning", "limits"} & given.keys():
        if not isinstance(given[key], str) or not given[key].strip():
            raise BadValue(f"ablation.{key}", given[key], "must be a text")
    for key in {"baseline", "claim"} & given.keys():
        if not isinstance(given[key], Mapping):
            raise BadValue(f"ablation.{key}", given[key], "must hold keys and values")
    nonnegative("ablation.matters", given["matters"])
    choice("ablation.part", given.get("part", "validation"), list(FIGURES))
    choice("ablation.stopping", given.get("stopping", FIXED), list(INTERVALS))
    if given.get("fit") not in (None, "n_params"):
        raise BadValue("ablation.fit", given["fit"], "must be n_params or null")
    names = given.get("robustness", [])
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise BadValue("ablation.robustness", names, "must be a list of experiments")
    return Question(**given)


def scalar(text: object) -> object:
    """A value as the command line has it: `4` and `4.0` are the same, and so are `1e-2` and `0.01`."""
    words = {"true": True, "false": False, "null": None}
    if isinstance(text, str) and text in words:
        return words[text]
    try:
        return text if isinstance(text, bool) or text is None else float(str(text))
    except ValueError:
        return text


def fits(differs: Mapping[str, Any], wanted: Mapping[str, Any]) -> bool:
    """Whether an arm's differing keys have all the values that are wanted."""
    return all(
        key in differs and scalar(differs[key]) == scalar(value) for key, value in wanted.items()
    )
