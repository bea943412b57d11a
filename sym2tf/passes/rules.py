"""The tables of rewrite rules, one for each level of soundness."""

from __future__ import annotations

from sym2tf.ops.arithmetic import log
from sym2tf.ops.elementary import exp, log1p, softplus
from sym2tf.ops.logic import not_, select
from sym2tf.passes.patterns import Rule, wild

a, b, c, d = wild("a b c d")

EXACT = (
    Rule("not-not", not_(not_(a)), a),
    Rule("select-same", select(c, a, a), a),
    Rule("select-true", select(True, a, b), a),
    Rule("select-false", select(False, a, b), b),
    Rule("select-not", select(not_(c), a, b), select(c, b, a)),
)
REAL = (
    Rule("factor", a * b + a * c, a * (b + c), single_use=True),
)
STABLE = (
    Rule("softplus", log(1 + exp(a)), softplus(a)),
    Rule("log1p", log(1 + a), log1p(a)),
)
