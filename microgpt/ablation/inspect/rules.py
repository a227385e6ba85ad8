"""What each operation of the engines computes, forward and backward, as short equations."""

from typing import NamedTuple


class Rule(NamedTuple):
    """One operation: its name, its equation, and the term of each operand's gradient.

    {0} {1} are the operands, {all} all of them, {y} is the result, {d} the gradient of the loss with
    respect to it, {rows} the number of rows of {0}, {down} and {across} the rows and columns where an
    operand stands if all are below or beside each other. A dot is a product of matrices; * and / go number
    by number; sum, mean and max go along a row. Further operands have the last term. Where an operand
    `repeats`, the second may be a row or a column that is repeated.
    """

    name: str
    forward: str
    backward: tuple[str, ...] = ()
    repeats: bool = False


RULES = {
    "constant": Rule("given numbers", "given"),
    "detached": Rule("without gradient", "{0}"),
    "gather": Rule("rows", "{0}[{1}]", ("{d} added to rows {1}",)),
    "concat_rows": Rule("below each other", "rows of {all}", ("{d}[{down}]",)),
    "columns": Rule("columns", "{0}[:, {1}:{2}]", ("{d} in [:, {1}:{2}]",)),
    "concat_columns": Rule("beside each other", "columns of {all}", ("{d}[:, {across}]",)),
    "transpose": Rule("transposed", "{0}ᵀ", ("{d}ᵀ",)),
    "pick": Rule("one of each row", "{0} at columns {1}", ("{d} at columns {1}, else 0",)),
    "add": Rule("sum", "{0} + {1}", ("{d}", "{d}"), repeats=True),
    "mul": Rule("product", "{0} * {1}", ("{d} * {1}", "{d} * {0}"), repeats=True),
    "div": Rule("quotient", "{0} / {1}", ("{d} / {1}", "-{d} * {y} / {1}"), repeats=True),
    "linear": Rule("linear", "{0} · {1}ᵀ", ("{d} · {1}", "{d}ᵀ · {0}")),
    "row_sum": Rule("sum of each row", "sum({0})", ("{d} in each column",)),
    "row_max": Rule("largest of each row", "max({0})"),
    "sign": Rule("sign", "sign({0})"),
    "relu": Rule("ReLU", "{0} where {0} > 0, else 0", ("{d} where {0} > 0, else 0",)),
    "exp": Rule("exponential", "exp({0})", ("{d} * {y}",)),
    "log": Rule("logarithm", "ln({0})", ("{d} / {0}",)),
    "tanh": Rule("tanh", "tanh({0})", ("{d} * (1 - {y}²)",)),
    "pow": Rule("power", "{0}^{1}", ("{d} * {1} * {0}^({1} - 1)",)),
    "mean": Rule("mean", "mean of the rows of {0}", ("{d} / {rows} in each row",)),
    "sigmoid": Rule("sigmoid", "1 / (1 + exp(-{0}))", ("{d} * {y} * (1 - {y})",)),
    "softmax": Rule("softmax", "exp({0}) / sum(exp({0}))", ("{y} * ({d} - sum({d} * {y}))",)),
    "logsumexp": Rule("logsumexp", "ln(sum(exp({0})))", ("{d} * softmax({0})",)),
    "rmsnorm": Rule(
        "RMSNorm",
        "{0} / √(mean({0}²) + {1})",
        ("({d} - {y} * mean({d} * {y})) / √(mean({0}²) + {1})",),
    ),
}
LOSS = Rule("loss of each position", "-ln({0})", ("-{d} / {0}",))


def head_rules(
    head: int, own: tuple[int, int], read: tuple[int, int], scale: float, biased: bool
) -> tuple[Rule, Rule, Rule]:
    """Scores (of q and k), weights, and weighted values (of weights and v) of a head of attention.

    Its queries are the columns `own` of q, its keys and values the columns `read` of k and v.
    """
    q, k = f"[:, {own[0]}:{own[1]}]", f"[:, {read[0]}:{read[1]}]"
    bias = " + bias" if biased else ""
    scores = Rule(
        f"scores, head {head}",
        f"{scale:.6g} {{0}}{q} · {{1}}{k}ᵀ{bias}, -∞ ahead",
        (f"{scale:.6g} {{d}} · {{1}}{k} in {q}", f"{scale:.6g} {{d}}ᵀ · {{0}}{q} in {k}"),
    )
    values = Rule(
        f"weighted values, head {head}",
        f"{{0}} · {{1}}{k}",
        (f"{{d}} · {{1}}{k}ᵀ", f"{{0}}ᵀ · {{d}} in {k}"),
    )
    return scores, RULES["softmax"]._replace(name=f"attention weights, head {head}"), values
