"""The duality gap of the l1 and l2 penalised logistic objective: a bound on its distance to the minimum.

The objective, for weights of sum W, is

    P = (1/W) Σ w loss + Σ ½ ridge_j coef_j² + bound_j |coef_j|.

A row's loss is the maximum of ρ·r + H over the probabilities q of its classes, where ρ = q − e_y subtracts 1 at the
true class y, and H is the entropy of q. Exchanging maximum and minimum gives the dual [1]_ [2]_

    D = (1/W) Σ w H − Σ conjugate_j(v_j),    v = −(1/W) Σ w ρ x,    conjugate_j(v) = max(|v| − bound_j, 0)² / 2 ridge_j,

at most P for every q with Σ w ρ = 0 if there is a free intercept, and |v_j| ≤ bound_j where ridge_j is 0. The model's
own p is such a q only at the minimum. Any q = f p + (1 − f) e_y, f from 0 to 1, has the residuals f (p − e_y):

- One f for each class y, in proportion to the stationary distribution of the chain whose rates from a class to another
  are Σ w p over its rows, makes Σ w ρ = 0. For two classes the smaller side keeps its residuals.
- One more factor s for all rows shrinks v into its bounds.

The gap P − D is a sum of terms that are at least 0, so nothing cancels at the minimum:

    (1/W) Σ w KL(q ‖ p) + Σ (½ ridge_j coef_j² + bound_j |coef_j| + conjugate_j(v_j) − v_j coef_j).

KL is convex in q, and equals the loss at q = e_y. So s KL + (1 − s) loss bounds it after shrinking, without another
pass. With sums in float32, the gap is accurate to about 1e-7 of the objective.

References
----------
.. [1] Koh, Kim and Boyd, An interior-point method for large-scale l1-regularized logistic regression, Journal of
   Machine Learning Research 8 (2007), section 3.
.. [2] Massias, Vaiter, Gramfort and Salmon, Dual extrapolation for sparse generalized linear models, Journal of Machine
   Learning Research 21 (2020), section 2.
"""

from .._array.mode import Mode
from .._array.namespace import Array, DType, Namespace, cast, device
from .._math import class_loss, softplus


def dual_sums(
    mode: Mode,
    x: Array,
    target: Array,
    w: Array | None,
    coef: Array,
    intercept: Array,
    factors: Array,
    *,
    wide: DType,
) -> tuple[Array, Array, Array, Array]:
    """Return the sums over rows, in dtype `wide`, that the duality gap is computed from; parts are merged by addition.

    Parameters
    ----------
    x, target, w, coef, intercept
        As in ``row_sums``: `target` is ±1 for two classes, else the class index.
    factors : array (K,)
        f for the rows of each class, from 0 to 1; for two classes in the order −1, +1. Initially ones.

    Returns
    -------
    loss : array ()
    divergence : array ()
        Σ w KL(q ‖ p).
    slope : array (p,) or (K, p)
        Σ w ρ x.
    levels : array (K, K)
        Σ w ρ of each class (first axis) over the rows of each class (second axis); for two classes ρ = ± f (1 − p).
    """
    xp, k = mode.xp, factors.shape[0]
    number = target if coef.ndim == 2 else xp.astype(target > 0, xp.int32)
    mine = xp.arange(k, dtype=number.dtype, device=device(x))[:, None] == number[None, :]
    ones = cast(xp, mine, x.dtype)
    f = factors @ ones
    if coef.ndim == 1:
        u = target * (x @ coef + intercept)
        e = xp.exp(-xp.abs(u))
        off = xp.where(u >= 0, e, xp.ones_like(e)) / (1.0 + e)  # 1 − p of the true class
        loss, odds = softplus(xp, -u), -u
        rho = -target * f * off
        rho = xp.stack([-rho, rho])
    else:
        r = coef @ x.T + intercept[:, None]
        r = r - xp.max(r, axis=0)
        e = xp.exp(r)
        zero = xp.zeros_like(r)
        rest, own = xp.sum(xp.where(mine, zero, e), axis=0), xp.sum(xp.where(mine, r, zero), axis=0)
        total = rest + xp.exp(own)
        off = rest / total
        loss = class_loss(xp, own, rest, total)
        # log((1 − p) / p) of the true class, −inf where 1 − p underflows.
        odds = xp.log(xp.where(rest > 0, rest, xp.ones_like(rest))) - own
        odds = xp.where(rest > 0, odds, xp.full_like(odds, -float("inf")))
        rho = f * xp.where(mine, -off, e / total)
    divergence = _divergence(xp, f, off, odds)
    if w is not None:
        zero = xp.zeros_like(loss)
        loss, divergence = (xp.where(w > 0, w * each, zero) for each in (loss, divergence))
        rho = rho * w
    slope = rho @ x if coef.ndim == 2 else rho[1, :] @ x
    made = xp.sum(loss), xp.sum(divergence), slope, rho @ ones.T
    loss, divergence, slope, levels = (cast(xp, a, wide) for a in made)
    return loss, divergence, slope, levels


def _divergence(xp: Namespace, f: Array, off: Array, odds: Array) -> Array:
    """KL(q ‖ p) for q = f p + (1 − f) e_y, from 1 − p of the true class, and log((1 − p) / p).

    It is f (1 − p) log f + (1 − f (1 − p)) log(1 + (1 − f) (1 − p) / p).
    """
    one, zero = xp.ones_like(f), xp.zeros_like(f)
    some, less = f > 0, f < 1
    log_f = xp.log(xp.where(some, f, one))
    log_rest = xp.log1p(-xp.where(less, f, zero))
    kept = f * off
    gained = xp.where(less, softplus(xp, xp.where(less, log_rest, zero) + odds), zero)
    # Rounding of two terms that nearly cancel must not give less than 0.
    return xp.maximum(kept * log_f + (1.0 - kept) * gained, zero)
