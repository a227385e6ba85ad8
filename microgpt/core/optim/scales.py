"""Refuses learning rates by weight where they are those of other rules."""

from microgpt.core.check import BadValue
from microgpt.core.models.base import Model, lr_scales


def check_alike(rule: object, model: Model) -> None:
    """Raises BadValue unless all weights of the model have one learning rate.

    muP's rates by weight are for rules whose step does not depend on the size of the gradient.
    """
    if len(set(lr_scales(model).values())) > 1:
        allowed = f"its rates are for adam, adamw and lion, not for {type(rule).__name__.lower()}"
        raise BadValue("model.init", type(model.init).__name__, allowed)
