"""A workbench for questions to a small GPT: pure-Python core, Hydra configs, MLflow tracking.

    run = microgpt.train(["model.n_head=2"])    as `microgpt train model.n_head=2`
    run = microgpt.load("heads/best")           or an id, a prefix of an id, a folder
    run.sample(prompt="mar")                    documents
    run.logits("mar"), run.metrics()            as DataFrames
    sweep = microgpt.sweep(["seed=1,2,3"])      as `microgpt train -m seed=1,2,3`
    sweep.arms(), sweep.curves(), sweep.runs()  as DataFrames

docs/python.md says more.
"""

import sys
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from microgpt.api import Error, Run, Sweep, arms, curves, load, runs, sweep, train

__version__ = "0.1.0"
__all__ = ["Error", "Run", "Sweep", "arms", "curves", "load", "runs", "sweep", "train"]


class _Late:
    """A name of `microgpt.api`, which is imported when the first of them is used.

    It takes precedence over a module of the same name, such as `microgpt/train.py`: that is imported
    by `from microgpt.train import ...`.
    """

    def __init__(self, name: str) -> None:
        self._name = name

    def __get__(self, package: ModuleType, kind: type) -> Any:
        from microgpt import api

        return getattr(api, self._name)

    def __set__(self, package: ModuleType, module: ModuleType) -> None:
        """Called by the import of a module of the same name."""


class _Package(ModuleType):
    def __dir__(self) -> list[str]:
        return sorted([*super().__dir__(), *__all__])


for _name in __all__:
    setattr(_Package, _name, _Late(_name))
sys.modules[__name__].__class__ = _Package
