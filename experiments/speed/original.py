"""The rival: the original program's operations in the original's way, all in one function.

Scalars with operator overloading, a recursive topological sort, one token at a time, sums that start
from 0, softmax over the whole vocabulary, Adam number by number. Local names are quicker than
global ones, so this is the original at its best.
"""

import math
import random
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from time import process_time


def original_step(
    documents: Sequence[str],
    *,
    n_embd: int,
    n_head: int,
    n_layer: int,
    block_size: int,
    num_steps: int,
) -> Callable[[], float]:
    """A fresh model; each call trains it on the next document and returns the loss."""
    sys.setrecursionlimit(1_000_000)
    rng = random.Random(42)
    characters = sorted(set("".join(documents)))
    bos, head_dim = len(characters), n_embd // n_head

    class Value:
        __slots__ = ("children", "data", "grad", "slopes")

        def __init__(self, data, children=(), slopes=()):  # type: ignore[no-untyped-def]
            self.data, self.grad, self.children, self.slopes = data, 0, children, slopes

        def __add__(self, other):  # type: ignore[no-untyped-def]
            other = other if isinstance(other, Value) else Value(other)
            return Value(self.data + other.data, (self, other), (1, 1))

        def __mul__(self, other):  # type: ignore[no-untyped-def]
            other = other if isinstance(other, Value) else Value(other)
            return Value(self.data * other.data, (self, other), (other.data, self.data))

        def __pow__(self, power):  # type: ignore[no-untyped-def]
            return Value(self.data**power, (self,), (power * self.data ** (power - 1),))

        def exp(self):  # type: ignore[no-untyped-def]
            return Value(math.exp(self.data), (self,), (math.exp(self.data),))

        def log(self):  # type: ignore[no-untyped-def]
            return Value(math.log(self.data), (self,), (1 / self.data,))

        def relu(self):  # type: ignore[no-untyped-def]
            return Value(max(0, self.data), (self,), (float(self.data > 0),))

        def __neg__(self):  # type: ignore[no-untyped-def]
            return self * -1

        def __sub__(self, other):  # type: ignore[no-untyped-def]
            return self + (-other)

        def __truediv__(self, other):  # type: ignore[no-untyped-def]
            return self * other**-1

        __radd__, __rmul__ = __add__, __mul__

        def backward(self):  # type: ignore[no-untyped-def]
            order, visited = [], set()

            def visit(node):  # type: ignore[no-untyped-def]
                if node not in visited:
                    visited.add(node)
                    for child in node.children:
                        visit(child)
                    order.append(node)

            visit(self)
            self.grad = 1
            for node in reversed(order):
                for child, slope in zip(node.children, node.slopes):
                    child.grad += slope * node.grad

    def matrix(rows, columns):  # type: ignore[no-untyped-def]
        return [[Value(rng.gauss(0, 0.08)) for _ in range(columns)] for _ in range(rows)]

    def linear(x, w):  # type: ignore[no-untyped-def]
        return [sum(wi * xi for wi, xi in zip(row, x)) for row in w]

    def softmax(logits):  # type: ignore[no-untyped-def]
        top = max(value.data for value in logits)
        exps = [(value - top).exp() for value in logits]
        total = sum(exps)
        return [e / total for e in exps]

    def norm(x):  # type: ignore[no-untyped-def]
        scale = (sum(xi * xi for xi in x) / len(x) + 1e-5) ** -0.5
        return [xi * scale for xi in x]

    wte, lm_head = matrix(bos + 1, n_embd), matrix(bos + 1, n_embd)
    wpe = matrix(block_size, n_embd)
    shapes = [(n_embd, n_embd)] * 4 + [(4 * n_embd, n_embd), (n_embd, 4 * n_embd)]
    layers = [[matrix(*shape) for shape in shapes] for _ in range(n_layer)]
    weights = [wte, wpe, lm_head] + [w for layer in layers for w in layer]
    params = [p for w in weights for row in w for p in row]

    def logits_of(token, place, keys, values):  # type: ignore[no-untyped-def]
        x = norm([t + p for t, p in zip(wte[token], wpe[place])])
        for i, (wq, wk, wv, wo, fc1, fc2) in enumerate(layers):
            normed = norm(x)
            q = linear(normed, wq)
            keys[i].append(linear(normed, wk))
            values[i].append(linear(normed, wv))
            mixed = []
            for at in range(0, n_embd, head_dim):
                q_h = q[at : at + head_dim]
                k_h = [k[at : at + head_dim] for k in keys[i]]
                v_h = [v[at : at + head_dim] for v in values[i]]
                scores = [sum(a * b for a, b in zip(q_h, k)) / head_dim**0.5 for k in k_h]
                probs = softmax(scores)
                mixed += [sum(p * v[j] for p, v in zip(probs, v_h)) for j in range(head_dim)]
            x = [a + b for a, b in zip(linear(mixed, wo), x)]
            hidden = [h.relu() for h in linear(norm(x), fc1)]
            x = [a + b for a, b in zip(linear(hidden, fc2), x)]
        return linear(x, lm_head)

    lr, beta1, beta2, eps = 0.01, 0.85, 0.99, 1e-8
    m, v = [0.0] * len(params), [0.0] * len(params)
    done = 0

    def step() -> float:
        nonlocal done
        ids = [characters.index(c) for c in documents[done % len(documents)]]
        ids = [bos, *ids, bos]
        n = min(block_size, len(ids) - 1)
        keys, values = [[] for _ in layers], [[] for _ in layers]
        losses = []
        for place in range(n):
            probs = softmax(logits_of(ids[place], place, keys, values))
            losses.append(-probs[ids[place + 1]].log())
        loss = (1 / n) * sum(losses)
        loss.backward()
        rate = lr * (1 - done / num_steps)
        for i, p in enumerate(params):
            m[i] = beta1 * m[i] + (1 - beta1) * p.grad
            v[i] = beta2 * v[i] + (1 - beta2) * p.grad**2
            m_hat, v_hat = m[i] / (1 - beta1 ** (done + 1)), v[i] / (1 - beta2 ** (done + 1))
            p.data -= rate * m_hat / (v_hat**0.5 + eps)
            p.grad = 0
        done += 1
        return float(loss.data)

    return step


if __name__ == "__main__":
    names, steps = Path(sys.argv[1]).read_text().split(), int(sys.argv[2])
    train = original_step(names, n_embd=16, n_head=4, n_layer=1, block_size=16, num_steps=1000)
    train()
    begun = process_time()
    for _ in range(steps):
        train()
    print((process_time() - begun) / steps)
