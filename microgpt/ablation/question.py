"""The `ablation` section of an experiment: what is asked, of whom it was learnt, what is claimed.

question      one sentence
source        papers, with arXiv numbers
expectation   what the field expects, written before the run
baseline      {key: value, ...}: the one arm that has these values; others are compared with it
matters       the smallest difference in held-out loss, in nats per token, that would matter
claim         what would confirm or refute the expectation: see claims.py; without it, no verdict
axis          the key on the x axis of the figures; one that ends in `.lr` makes the sweep one of
              learning rates: an arm whose best rate is the grid's first or last is not ranked
tuning        the experiment whose sweep, over other seeds, chose each arm's `optimizer.lr`
fit           `n_params`: a power law of held-out loss in the number of parameters
limits        what the result does not say; without it, a sentence that names the scale
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from microgpt.core.check import BadValue, nonnegative

KEYS = (
    *("question", "source", "expectation", "baseline", "matters", "claim"),
    *("axis", "tuning", "fit", "limits"),
)
REQUIRED = ("question", "source", "expectation", "baseline", "matters")
RATE = "optimizer.lr"  # what a tuning sweep chooses


@dataclass(frozen=True)
class Question:
    """The section, checked; the claim stays as it was written, for claims.py."""

    question: str
    source: str
    expectation: str
    baseline: Mapping[str, Any]
    matters: float
    claim: Mapping[str, Any] | None = None
    axis: str | None = None
    tuning: str | None = None
    fit: str | None = None
    limits: str | None = None

    @property
    def of_rates(self) -> bool:
        """Whether the sweep is a grid of learning rates."""
        return self.axis is not None and self.axis.endswith(".lr")


def question(section: object) -> Question:
    """The section as a Question. Raises BadValue under the key's full name."""
    if not isinstance(section, Mapping):
        raise BadValue("ablation", section, "must hold keys, as ablation.question")
    for key in REQUIRED:
        if section.get(key) is None:
            raise BadValue(f"ablation.{key}", None, "must be there")
    for key in section:
        if key not in KEYS:
            raise BadValue(f"ablation.{key}", section[key], f"no such key; there are {KEYS}")
    for key in ("baseline", "claim"):
        if section.get(key) is not None and not isinstance(section[key], Mapping):
            raise BadValue(f"ablation.{key}", section[key], "must hold keys and values")
    nonnegative("ablation.matters", section["matters"])
    if section.get("fit") not in (None, "n_params"):
        raise BadValue("ablation.fit", section["fit"], "must be n_params or null")
    return Question(**section)


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
