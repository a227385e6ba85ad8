"""Adam in the expressions of the original program."""

from microgpt.core.optim.adam import Adam


class AdamOriginal(Adam):
    """Adam with `beta ** t`, `g ** 2` and `v ** 0.5`, bit by bit what the original computes.

    Their last bits come from the machine's libm, so only `experiment=original` uses it.
    """

    def update(self, name: str, values: list[float], grads: list[float], lr: float) -> list[float]:
        m, v = self.state["m"][name], self.state["v"][name]
        updated = []
        for i, (p, g) in enumerate(zip(values, grads)):
            m[i] = self.beta1 * m[i] + (1 - self.beta1) * g
            v[i] = self.beta2 * v[i] + (1 - self.beta2) * g**2
            m_hat = m[i] / (1 - self.beta1**self.steps)
            v_hat = v[i] / (1 - self.beta2**self.steps)
            updated.append(p - lr * m_hat / (v_hat**0.5 + self.eps))
        return updated
