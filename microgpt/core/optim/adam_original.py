"""Adam in the expressions of the original program."""

from microgpt.core.engine.base import Engine, Matrix
from microgpt.core.optim.adam import Adam
from microgpt.core.optim.base import Slots


class AdamOriginal(Adam):
    """Adam with `beta ** t`, `g ** 2` and `v ** 0.5`, bit-identical to the original program.

    The last bits depend on the machine's libm, so only `experiment=original` uses it. It computes
    in Python floats on every engine, since an engine's division may round differently.
    """

    def update(self, ops: Engine, p: Matrix, g: Matrix, slots: Slots, lr: float) -> Matrix:
        rows = zip(*(ops.values(x) for x in (p, g, slots["m"], slots["v"])))
        new = [[self.one(numbers, lr) for numbers in zip(*row)] for row in rows]
        p, slots["m"], slots["v"] = (
            ops.constant([[numbers[i] for numbers in row] for row in new]) for i in range(3)
        )
        return p

    def one(self, numbers: tuple[float, ...], lr: float) -> tuple[float, float, float]:
        """The update of one parameter, from (p, g, m, v) to (p, m, v)."""
        p, g, m, v = numbers
        m = self.beta1 * m + (1 - self.beta1) * g
        v = self.beta2 * v + (1 - self.beta2) * g**2
        m_hat = m / (1 - self.beta1**self.steps)
        v_hat = v / (1 - self.beta2**self.steps)
        return p - lr * m_hat / (v_hat**0.5 + self.eps), m, v
