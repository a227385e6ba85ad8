"""The native engine: Python writes the tape as integers, C runs it forward and backward."""

import math
from collections.abc import Sequence
from itertools import chain

from microgpt.core.data import Batch
from microgpt.core.engine.base import Forward, Updates, shares
from microgpt.core.engine.shapes import (
    Bias,
    Spans,
    check_bias,
    check_columns,
    check_count,
    check_range,
    check_rows,
    check_same,
    check_widths,
)
from microgpt.native import tape as op
from microgpt.native.library import facts
from microgpt.native.matrix import Stored
from microgpt.native.recorder import Matrix, Weights
from microgpt.native.replay import Replays
from microgpt.native.storage import Storage
from microgpt.native.tape import bits


class NativeEngine(Storage):
    """The vector engine's arithmetic in C, bit-identical."""

    arithmetic = "exact"

    def __init__(self) -> None:
        super().__init__()
        self._replays = Replays(self)
        self._stepped: Weights = {}  # the weights of the last step

    def depends_on(self) -> dict[str, str]:
        return facts()

    def forget_programs(self) -> None:
        """Run the model's Python code for the next batch of every shape."""
        self._replays.clear()

    # Rows and columns

    def gather(self, x: Matrix, ids: Sequence[int]) -> Matrix:
        return self._new(op.GATHER, len(ids), x.n, x, ints=ids)

    def concat_rows(self, xs: Sequence[Matrix]) -> Matrix:
        check_widths((x.rows, x.n) for x in xs)
        return self._joining(op.CONCAT_ROWS, sum(x.rows for x in xs), xs[0].n, xs)

    def columns(self, x: Matrix, start: int, stop: int) -> Matrix:
        check_range((x.rows, x.n), start, stop)
        return self._new(op.COLUMNS, x.rows, stop - start, x, ints=(start,))

    def concat_columns(self, xs: Sequence[Matrix]) -> Matrix:
        check_rows((x.rows, x.n) for x in xs)
        return self._joining(op.CONCAT_COLUMNS, xs[0].rows, sum(x.n for x in xs), xs)

    def transpose(self, x: Matrix) -> Matrix:
        return self._new(op.TRANSPOSE, x.n, x.rows, x)

    def pick(self, x: Matrix, ids: Sequence[int]) -> Matrix:
        check_count((x.rows, x.n), ids)
        return self._new(op.PICK, x.rows, 1, x, ints=ids)

    # Arithmetic

    def add(self, a: Matrix, b: Matrix | float) -> Matrix:
        return self._pair(op.ADD, op.ADD_NUMBER, a, b)

    def mul(self, a: Matrix, b: Matrix | float) -> Matrix:
        return self._pair(op.MUL, op.MUL_NUMBER, a, b)

    def div(self, a: Matrix, b: Matrix | float) -> Matrix:
        return self._pair(op.DIV, op.DIV_NUMBER, a, b)

    def linear(self, x: Matrix, w: Matrix) -> Matrix:
        if x.n != w.n:
            check_columns((x.rows, x.n), (w.rows, w.n))
        return self._new(op.LINEAR, x.rows, w.rows, x, w)

    def row_sum(self, x: Matrix) -> Matrix:
        return self._new(op.ROW_SUM, x.rows, 1, x)

    def row_max(self, x: Matrix) -> Matrix:
        return self._new(op.ROW_MAX, x.rows, 1, x, traced=False)

    def sign(self, x: Matrix) -> Matrix:
        return self._new(op.SIGN, x.rows, x.n, x, traced=False)

    def relu(self, x: Matrix) -> Matrix:
        return self._new(op.RELU, x.rows, x.n, x)

    def exp(self, x: Matrix) -> Matrix:
        return self._new(op.EXP, x.rows, x.n, x)

    def log(self, x: Matrix) -> Matrix:
        return self._new(op.LOG, x.rows, x.n, x)

    def tanh(self, x: Matrix) -> Matrix:
        return self._new(op.TANH, x.rows, x.n, x)

    def pow(self, x: Matrix, power: float) -> Matrix:
        return self._new(op.POW, x.rows, x.n, x, ints=(bits(power),))

    # The operations that the vector engine fuses

    def softmax(self, x: Matrix) -> Matrix:
        return self._new(op.SOFTMAX, x.rows, x.n, x)

    def rmsnorm(self, x: Matrix, eps: float) -> Matrix:
        return self._new(op.RMSNORM, x.rows, x.n, x, ints=(bits(eps),))

    def cross_entropy(self, logits: Matrix, targets: Sequence[int]) -> Matrix:
        check_count((logits.rows, logits.n), targets)
        return self._new(op.CROSS_ENTROPY, logits.rows, 1, logits, ints=targets)

    def attention(
        self,
        q: Matrix,
        k: Matrix,
        v: Matrix,
        *,
        n_head: int,
        spans: Spans,
        bias: Bias = None,
        scale: float | None = None,
    ) -> Matrix:
        _check_attention(q, k, v, n_head, spans)
        check_bias(bias, n_head, spans)
        scale = 1 / math.sqrt(q.n // n_head) if scale is None else scale
        far = -1
        if bias is not None:
            longest = max(stop - start for start, stop in spans)
            far = self._at(self.constant([list(row[:longest]) for row in bias]))
        ints = [self._at(v), far, n_head, bits(scale), *chain.from_iterable(spans)]
        traced = q.traced or k.traced or v.traced
        return self._new(op.ATTENTION, q.rows, q.n, q, k, ints, traced)

    # Training

    def adam(
        self,
        p: Matrix,
        g: Matrix,
        m: Matrix,
        v: Matrix,
        *,
        beta1: float,
        beta2: float,
        rate: float,
        eps: float,
    ) -> tuple[Matrix, Matrix, Matrix]:
        for x in (g, m, v):
            check_same((p.rows, p.n), (x.rows, x.n))
        recording = self._recording
        if recording.code:
            self._flush(recording)
        places = [x.address if type(x) is Stored else self._address(x) for x in (p, g, m, v)]
        self._lib.adam_step(*places, p.rows * p.n, beta1, beta2, rate, eps)
        if recording.leaves:
            for x in (p, m, v):
                if isinstance(x, Stored):
                    self._changed(x.memory)
        return p, m, v

    def step(
        self,
        forward: Forward,
        weights: Weights,
        batches: Sequence[Batch],
        optimizer: Updates,
        *,
        lr: float,
        clip_norm: float | None,
        measured: bool,
    ) -> tuple[float, float]:
        """See `Engine.step`; a batch whose shape was seen before is replayed."""
        if self._stepped != weights:
            self._stepped, self._in_place = dict(weights), None
            self._replays.clear()
        loss = 0.0
        for batch, share in zip(batches, shares(batches)):
            loss += share * self._replays.run(forward, weights, batch, share)
            if not math.isfinite(loss):
                return loss, math.nan
        gradients = self.gradients_in_place(weights)
        norm = self.global_norm(gradients) if clip_norm or measured else 0.0
        scale = clip_norm / norm if clip_norm and norm > clip_norm else 1.0
        optimizer.step(self, gradients, lr, scale)
        return loss, norm


def _check_attention(q: Matrix, k: Matrix, v: Matrix, n_head: int, spans: Spans) -> None:
    """Raises ValueError for shapes that do not fit; the C code does not check them."""
    if k.rows != v.rows:
        raise ValueError(f"[{k.rows}] keys with [{v.rows}] values")
    head_dim = q.n // n_head
    if q.n % n_head or k.n % head_dim or q.n % k.n or k.n != v.n:
        raise ValueError(f"{n_head} heads of queries [{q.n}] cannot read keys [{k.n}]")
    stop = 0
    for start, end in spans:
        if start != stop or end <= start:
            raise ValueError(f"the spans {list(spans)} are no documents one after another")
        stop = end
    if stop != k.rows or q.rows > stop:
        raise ValueError(f"the spans end at {stop}, with {q.rows} queries and {k.rows} keys")
