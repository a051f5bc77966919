"""The table of coefficients that statistics packages print."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from .._array.backends import to_host
from .._array.host import on_host

NORMAL_975 = 1.959963984540054


@dataclass(frozen=True)
class LogisticReport:
    """How a fit went, and what its table needs beside the coefficients.

    Attributes
    ----------
    solver : str
        The one that "auto" chose, or that was asked for.
    rows : int
    weight : float
        Σw, class weights included.
    log_likelihood : float
        −Σ w·loss, without the penalties.
    class_weights : tuple of float
        Σw of each class.
    fit_intercept : bool
    gradient : float
        The largest derivative of the mean objective by a coefficient of the scaled columns, before the last step.
    gap : float or None
        A bound on how far the objective is above its minimum: the square of Newton's decrement, or with l1 the duality
        gap, if rounding lets it be small. Where L-BFGS cannot afford a Hessian it is twice the slope of the last
        direction, an estimate. None if not converged.
    dependent : tuple of int
        Indices of the columns that are linearly dependent to the rounding of x, the intercept counted as a column of
        ones.
    """

    solver: str
    rows: int
    weight: float
    log_likelihood: float
    class_weights: tuple[float, ...]
    fit_intercept: bool
    gradient: float
    gap: float | None
    dependent: tuple[int, ...]

    @property
    def null_log_likelihood(self) -> float:
        """That of a model with nothing but the intercept, or with nothing at all."""
        if not self.fit_intercept:
            return -self.weight * math.log(len(self.class_weights))
        return sum(w * math.log(w / self.weight) for w in self.class_weights if w > 0)

    def table(self, result: Any, names: Sequence[str] | None) -> str:
        """The table as text."""
        coef = on_host(result.coef).reshape(-1, result.coef.shape[-1])
        intercept = on_host(result.intercept).reshape(-1, 1)
        lines, p = coef.shape
        names = [f"x{i + 1}" for i in range(p)] if names is None else list(names)
        if len(names) != p:
            raise ValueError(f"names must be those of {p} columns, got {len(names)}")
        errors = None
        if result.stderr is not None:
            errors = [on_host(e).reshape(lines, -1) for e in result.stderr]
        classes = to_host(result.classes).tolist()
        titles = [*names, *(["intercept"] if self.fit_intercept else [])]
        width = max(11, *(len(str(t)) for t in titles))
        head = f"{'':{width}} {'coef':>12} {'std err':>12} {'z':>9} {'P>|z|':>7} {'[0.025':>12} {'0.975]':>12}"
        rule = "-" * len(head)
        out = [self._title(result), rule, head, rule]
        for k in range(lines):
            if lines > 1:
                out.append(f"class {classes[k]}")
            values = [*coef[k].tolist(), *(intercept[k].tolist() if self.fit_intercept else [])]
            spread = [None] * len(values) if errors is None else [*errors[0][k].tolist(), *errors[1][k].tolist()]
            out += [_row(f"{t:{width}}", v, e) for t, v, e in zip(titles, values, spread, strict=False)]
        if result.separated:
            out += [rule, "The classes are separated: there is no minimum, and these coefficients are not one."]
        elif errors is None:
            out += [rule, "No standard errors: the coefficients are penalised, or too many."]
        if self.dependent:
            which = ", ".join(str(names[j]) for j in self.dependent)
            out += [rule, f"These columns depend on each other and have no standard errors: {which}. Leave one out."]
        return "\n".join(out)

    def _title(self, result: Any) -> str:
        kind = "binary" if len(self.class_weights) == 2 else f"{len(self.class_weights)} classes"
        state = "separated" if result.separated else "converged" if result.converged else "not converged"
        null = self.null_log_likelihood
        pseudo = 1.0 - self.log_likelihood / null if null else 0.0
        return (
            f"Logistic regression, {kind}: {self.rows} rows, {self.solver}, {result.n_iter} iterations, {state}\n"
            f"log-likelihood {self.log_likelihood:.6g}, of the intercept alone {null:.6g}, pseudo R² {pseudo:.4g}"
        )


def _row(title: str, value: float, error: float | None) -> str:
    if error is None or not 0 < error < math.inf:
        return f"{title} {value:12.6g}"
    z = value / error
    p = math.erfc(abs(z) / math.sqrt(2))
    low, high = value - NORMAL_975 * error, value + NORMAL_975 * error
    return f"{title} {value:12.6g} {error:12.6g} {z:9.3f} {p:7.3f} {low:12.6g} {high:12.6g}"
