"""What the state of a checkpoint may be instead of a run's own, and what is said of it."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from microgpt.core.events import Checkpointed

NAN = float("nan")


def other(mapping: dict[str, Any], name: str, value: Any) -> dict[str, Any]:
    return {**mapping, name: value}


def without(mapping: dict[str, Any], name: str) -> dict[str, Any]:
    return {key: value for key, value in mapping.items() if key != name}


def transposed(state: Checkpointed) -> Checkpointed:
    rows, columns = state.shapes["wte"]
    return replace(state, shapes=other(state.shapes, "wte", (columns, rows)))


def renamed(state: Checkpointed) -> Checkpointed:
    def new(mapping: dict[str, Any]) -> dict[str, Any]:
        return {("wtf" if name == "wte" else name): value for name, value in mapping.items()}

    slots = {slot: new(own) for slot, own in state.slots.items()}
    return replace(state, shapes=new(state.shapes), weights=new(state.weights), slots=slots)


def missing(state: Checkpointed) -> Checkpointed:
    slots = {slot: without(own, "wte") for slot, own in state.slots.items()}
    shapes, weights = without(state.shapes, "wte"), without(state.weights, "wte")
    return replace(state, shapes=shapes, weights=weights, slots=slots)


def small(state: Checkpointed) -> Checkpointed:
    """A 3 x 3 weight, with its slots."""
    nine = [0.5] * 9
    slots = {slot: other(own, "wte", nine) for slot, own in state.slots.items()}
    return replace(
        state,
        shapes=other(state.shapes, "wte", (3, 3)),
        weights=other(state.weights, "wte", nine),
        slots=slots,
    )


def generator(state: Checkpointed, words: tuple[int, ...]) -> Checkpointed:
    return replace(state, streams=other(state.streams, "data", words))


WORDS = tuple(range(624))
MISFITS: dict[str, tuple[Callable[[Checkpointed], Checkpointed], str]] = {
    "transposed": (transposed, "wte is 8 x 27, but must be 27 x 8"),
    "renamed": (renamed, "wte is not there, but must be 27 x 8"),
    "missing": (missing, "wte is not there"),
    "small": (small, "wte is 3 x 3, but must be"),
    "no slot": (
        lambda s: replace(s, slots=without(s.slots, "m")),
        "slot m of layer0.attn_wk is missing",
    ),
    "half a slot": (
        lambda s: replace(s, slots=other(s.slots, "v", without(s.slots["v"], "wte"))),
        "slot v of wte is missing",
    ),
    "another slot": (lambda s: replace(s, slots=other(s.slots, "w", s.slots["v"])), "has no use"),
    "no generator": (lambda s: replace(s, streams=without(s.streams, "data")), "data is missing"),
    "short generator": (lambda s: generator(s, WORDS[:9]), "generator data has no state"),
    "words too large": (lambda s: generator(s, (*WORDS[1:], 2**32, 0)), "generator data has no"),
    "words below 0": (lambda s: generator(s, (*WORDS, -1)), "generator data has no state"),
    "position": (lambda s: generator(s, (*WORDS, 625)), "generator data has no state"),
    "step": (lambda s: replace(s, step=10**9), "it says step 1000000000"),
    "another step": (lambda s: replace(s, step=10), "it says step 10"),
    "negative time": (lambda s: replace(s, seconds=-1.0), "took -1.0 seconds"),
    "no time": (lambda s: replace(s, seconds=NAN), "took nan seconds"),
}
