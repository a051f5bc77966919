"""A fitted logistic regression: inference as numbers, and as a table in the style of statistics packages."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

from .._array.arguments import check_number
from .._array.backends import to_host
from .._array.host import Host, from_host
from .._array.namespace import Array, namespace
from .._host.logistic.inference import (
    cells,
    chi2_tail,
    errors_of,
    exponentials,
    intervals,
    joined,
    parted,
    quotients,
    relative,
    two_sided,
    with_infinities,
    without_last,
)
from .._host.logistic.lbfgs import HESSIAN_LIMIT


@dataclass(frozen=True)
class LogisticReport:
    """Outcome of a fit, and the other numbers that inference needs.

    Attributes
    ----------
    solver : str
        The solver that "auto" chose, or the given one.
    rows : int
    weight : float
        Σw, class weights included.
    log_likelihood : float
        −Σ w·loss, without the penalties.
    class_weights : tuple of float
        Σw of each class.
    fit_intercept : bool
    l2, l1 : float
        The penalties.
    parameters : int
        Free parameters: (K − 1) · (number of linearly independent columns, the intercept's included).
    gradient : float
        The largest derivative of the mean objective with respect to a coefficient of the scaled columns, before the
        last step.
    gap : float or None
        A bound on how far the objective is above its minimum: the square of Newton's decrement, or with l1 the duality
        gap, if rounding allows it to be small. If L-BFGS cannot afford a Hessian, an estimate: twice the slope of the
        last direction. None if not converged.
    dependent : tuple of int
        Indices of the columns that are linearly dependent up to the rounding of x; the intercept counts as a column of
        ones.
    separating : tuple of tuples of int
        If the classes are separated: the columns that separate them alone, or else the smallest set found that
        separates them together; empty if there are too many columns to try.
    weighted : bool
        Whether samples or classes had weights.
    covariance : float64 NumPy array (D, D), or None
        Covariance of all coefficients, each class with its intercept last; NaN for dependent columns.
    """

    solver: str
    rows: int
    weight: float
    log_likelihood: float
    class_weights: tuple[float, ...]
    fit_intercept: bool
    l2: float
    l1: float
    parameters: int
    gradient: float
    gap: float | None
    dependent: tuple[int, ...]
    separating: tuple[tuple[int, ...], ...]
    weighted: bool = False
    covariance: Host | None = field(default=None, repr=False, compare=False)

    @property
    def null_log_likelihood(self) -> float:
        """Log-likelihood of a model with only the intercept, or with no parameter."""
        if not self.fit_intercept:
            return -self.weight * math.log(len(self.class_weights))
        return sum(w * math.log(w / self.weight) for w in self.class_weights if w > 0)


class LikelihoodRatio(NamedTuple):
    """Likelihood-ratio test against the intercepts alone: twice the difference of log-likelihoods, and its χ² test.

    Attributes
    ----------
    statistic : float
    df : int
        Number of parameters without the intercepts.
    pvalue : float
        Probability of a larger statistic if no column has an effect.
    """

    statistic: float
    df: int
    pvalue: float


class LogisticResult(NamedTuple):
    """A fitted model, the outcome of the fit, and its inference; ``print`` shows the table of coefficients.

    Inference is computed on access, from the observed information at the minimum of an unpenalised loss. Weights count
    as frequencies: a row of weight 2 is two rows. If weights have another meaning (class weights, sampling,
    importance), the coefficients are right, but standard errors and everything computed from them are not.

    Attributes
    ----------
    coef : array (p,) or (K, p)
    intercept : array () or (K,)
    classes : array (K,)
        The labels in ascending order; text on the host.
    loss : float
        (Σ w·loss + penalties) / Σw.
    n_iter : int
        Number of steps; each is one pass over the data.
    converged : bool
        Whether the loss is certainly within tol² of its minimum (with l1, within tol), relative to its value, or the
        classes are separated. Beyond 4 096 coefficients, or 10¹⁰ products for a Hessian, a small gradient decides.
    separated : bool
        Whether, without a penalty, the loss has no minimum, because some direction separates the classes.
    stderr : tuple of arrays, or None
        Standard errors of coef and intercept, from the observed information; infinite for linearly dependent columns.
        None if penalised or separated; what is computed from them then raises ValueError.
    report : LogisticReport
        Other numbers that inference needs: the chosen solver, Σw, the log-likelihood, the covariance.

    Examples
    --------
    >>> import numpy as np, anyops
    >>> x = np.asarray([[0.0], [1.0], [2.0], [3.0], [4.0], [5.0]])
    >>> found = anyops.logistic_regression(x, np.asarray([0, 0, 1, 0, 1, 1]))
    >>> found.pvalues[0].round(3), found.conf_int()[0].round(2), round(found.aic, 3)
    (array([0.183]), array([[-0.57,  3.  ]]), 8.956)
    """

    coef: Array
    intercept: Array
    classes: Array
    loss: float
    n_iter: int
    converged: bool
    separated: bool
    stderr: tuple[Array, Array] | None
    report: LogisticReport | None = None

    @property
    def covariance(self) -> Array:
        """Covariance (D, D) of coef and intercept; for K classes, class by class.

        Dependent columns have infinite variances, and NaN covariances. Without an intercept in the model it is the
        covariance of coef alone.
        """
        covariance = with_infinities(self._covariance())
        if not self._report_or_raise().fit_intercept:
            covariance = without_last(covariance, self._values().shape)
        return self._as_coef(covariance)

    @property
    def zvalues(self) -> tuple[Array, Array]:
        """Coef and intercept divided by their standard errors; NaN if these are infinite, or 0."""
        return self._parts(quotients(self._values(), self._errors()))

    @property
    def pvalues(self) -> tuple[Array, Array]:
        """Probabilities of a larger \\|z\\| if the coefficient is 0, of coef and intercept (Wald's test)."""
        return self._parts(two_sided(quotients(self._values(), self._errors())))

    def conf_int(self, alpha: float = 0.05) -> tuple[Array, Array]:
        """Confidence intervals of coef and intercept, their ends along a last axis, for the level 1 − alpha."""
        alpha = check_number("alpha", alpha, least=0, largest=1)
        return self._parts(intervals(self._values(), self._errors(), alpha))

    @property
    def odds_ratios(self) -> Array:
        """exp(coef): the factor of the odds for one unit of a column; its interval is exp(conf_int()[0]).

        With K ≥ 3 classes call :meth:`relative_to` first: coefficients that sum to 0 compare with no class. If the
        classes are separated, the numbers have no meaning.
        """
        return self._as_coef(exponentials(self.coef))

    @property
    def log_likelihood(self) -> float:
        """−Σ w·loss, without the penalties."""
        return self._report_or_raise().log_likelihood

    @property
    def null_log_likelihood(self) -> float:
        """Log-likelihood of a model with only the intercept; of even odds if there is no intercept."""
        return self._report_or_raise().null_log_likelihood

    @property
    def pseudo_r2(self) -> float:
        """McFadden's R², 1 − log-likelihood / null log-likelihood."""
        null = self.null_log_likelihood
        return 1.0 - self.log_likelihood / null if null else 0.0

    @property
    def aic(self) -> float:
        """Akaike's criterion, 2 · parameters − 2 · log-likelihood."""
        report = self._report_of_maximum("aic")
        return 2.0 * report.parameters - 2.0 * report.log_likelihood

    @property
    def bic(self) -> float:
        """Schwarz's criterion, log(Σw) · parameters − 2 · log-likelihood."""
        report = self._report_of_maximum("bic")
        return math.log(report.weight) * report.parameters - 2.0 * report.log_likelihood

    @property
    def likelihood_ratio(self) -> LikelihoodRatio:
        """Test of all columns together against the null model."""
        report = self._report_of_maximum("likelihood_ratio")
        df = report.parameters - (len(report.class_weights) - 1) * report.fit_intercept
        statistic = max(2.0 * (report.log_likelihood - report.null_log_likelihood), 0.0)
        return LikelihoodRatio(statistic, df, chi2_tail(statistic, df))

    def relative_to(self, label: Any) -> "LogisticResult":
        """Return the same model with the coefficients of one of K classes, the base, at 0.

        The coefficients of each other class are differences from it, with their own standard errors, as printed by
        MNLogit of statsmodels, R's ``multinom`` and Stata's ``mlogit``. Probabilities do not change.

        Parameters
        ----------
        label : one of `classes`

        Raises
        ------
        ValueError
            If there are two classes (coef is already relative to the first), or `label` is not one of the classes.
        """
        classes = to_host(self.classes).tolist()
        if hasattr(label, "shape"):
            if label.shape != ():
                got = tuple(label.shape)
                raise TypeError(f"label must be one of the classes {classes}, got an array of shape {got}")
            label = to_host(label).item()
        if len(classes) == 2:
            raise ValueError(f"relative_to needs more than two classes, got 2: coef is relative to {classes[0]!r}")
        if label not in classes:
            raise ValueError(f"label must be one of the classes {classes}, got {label!r}")
        base, report = classes.index(label), self._report_or_raise()
        values = self._values()
        coef, intercept = self._parts(values - values[base])
        moved = self._replace(coef=coef, intercept=intercept)
        if self.stderr is None:
            return moved
        covariance = relative(self._covariance(), values.shape, base)
        moved = moved._replace(report=replace(report, covariance=covariance))
        return moved._replace(stderr=moved._parts(errors_of(covariance, values.shape)))

    def __str__(self) -> str:
        return repr(self) if self.report is None else self.summary()

    def summary(self, names: Sequence[str] | None = None, *, alpha: float = 0.05) -> str:
        """The table of coefficients: standard error, z, p-value and interval; above it, the quality of the fit.

        Of two classes, the coefficients are those of the second in `classes`; the table names both.

        Parameters
        ----------
        names : sequence of str, optional
            Of the columns of x; x1, x2 … if not given.
        alpha : float in [0, 1]
            1 − the level of the intervals.
        """
        report, values = self._report_or_raise(), self._values()
        alpha = check_number("alpha", alpha, least=0, largest=1)
        p = values.shape[1] - 1
        if isinstance(names, str) or not (names is None or hasattr(names, "__iter__")):
            raise TypeError(f"names must be a sequence of {p} names, got {names!r}")
        # One line per column: characters that would break the line are escaped.
        names = [f"x{i + 1}" for i in range(p)] if names is None else [_in_line(str(name)) for name in names]
        if len(names) != p:
            raise ValueError(f"names must hold {p} names, one per column of x, got {len(names)}")
        errors = None if self.stderr is None else self._errors()
        classes = to_host(self.classes).tolist()
        titles = [*names, *(["intercept"] if report.fit_intercept else [])]
        width = max(11, *map(len, titles))
        ends = f"[{alpha / 2:.4g}", f"{1 - alpha / 2:.4g}]"
        head = f"{'':{width}} {'coef':>12} {'std err':>12} {'z':>9} {'P>|z|':>7} {ends[0]:>12} {ends[1]:>12}"
        rule = "-" * len(head)
        out = [*self._title(), rule, head, rule]
        for label, line in zip(classes[-len(values) :], cells(values, errors, alpha), strict=True):
            if len(values) == 1:
                out.append(f"log-odds of class {_in_line(str(label))} against class {_in_line(str(classes[0]))}")
            else:
                out.append(f"class {_in_line(str(label))}")
                base = not any(value or (errors is not None and error) for value, error, *_ in line)
                if base and values.any():
                    out[-1] += ", which the others are relative to"
                    continue
            out += [_row(f"{title:{width}}", *numbers) for title, numbers in zip(titles, line, strict=False)]
        out += [rule, *self._notes(names)]
        return "\n".join(out[:-1] if out[-1] == rule else out)

    # --- helpers ---

    def _report_or_raise(self) -> LogisticReport:
        if self.report is None:
            raise ValueError("inference needs a result of logistic_regression, got one without a report")
        return self.report

    def _report_of_maximum(self, what: str) -> LogisticReport:
        """Return the report; raise ValueError unless the coefficients maximise the likelihood."""
        report = self._report_or_raise()
        if report.l1 > 0 or report.l2 > 0 or self.separated:
            raise ValueError(f"{what} needs maximum-likelihood coefficients, but {self._why_no_errors()}")
        if not self.converged:
            raise ValueError(f"{what} needs maximum-likelihood coefficients, but the fit has not converged")
        return report

    def _covariance(self) -> Host:
        covariance = self._report_or_raise().covariance
        if covariance is None:
            raise ValueError(f"there are no standard errors, because {self._why_no_errors()}")
        return covariance

    def _why_no_errors(self) -> str:
        report = self._report_or_raise()
        if self.separated:
            return "the classes are separated, so no coefficients minimise the loss"
        if report.l1 > 0 or report.l2 > 0:
            return f"the coefficients are penalised, l1 = {report.l1:g} and l2 = {report.l2:g}"
        if report.covariance is not None:
            return "stderr is None, although the report holds a covariance"
        return f"the Hessian is computed for at most {HESSIAN_LIMIT} coefficients, got {self._values().size}"

    def _values(self) -> Host:
        """Coefficients (lines, p + 1), the intercept last."""
        return joined(self.coef, self.intercept)

    def _errors(self) -> Host:
        return errors_of(self._covariance(), self._values().shape)

    def _parts(self, values: Host) -> tuple[Array, Array]:
        """Split numbers (lines, p + 1, ...) into the shapes of coef and of intercept."""
        coef, intercept = parted(values, self.coef.ndim)
        return self._as_coef(coef), self._as_coef(intercept)

    def _as_coef(self, values: Host) -> Array:
        """Numbers in the library, on the device and in the dtype of coef."""
        return from_host(namespace(coef=self.coef), values, self.coef.dtype, self.coef)

    def _title(self) -> list[str]:
        report = self._report_or_raise()
        kind = "binary" if len(report.class_weights) == 2 else f"{len(report.class_weights)} classes"
        null = "intercept only" if report.fit_intercept else "even odds"
        rows = f"{report.rows} rows"
        if report.weighted and report.weight != report.rows:
            rows += f" of total weight {report.weight:.6g}"
        steps = "1 iteration" if self.n_iter == 1 else f"{self.n_iter} iterations"
        state = "separated" if self.separated else "converged" if self.converged else "not converged"
        out = [
            f"Logistic regression, {kind}: {rows}, {report.solver}, {steps}, {state}",
            f"log-likelihood {self.log_likelihood:.6g}, {null} {self.null_log_likelihood:.6g}, "
            f"pseudo R² {self.pseudo_r2:.4g}",
        ]
        if self.converged and not (report.l1 > 0 or report.l2 > 0 or self.separated):
            statistic, df, pvalue = self.likelihood_ratio
            out.append(
                f"AIC {self.aic:.6g}, BIC {self.bic:.6g}, likelihood ratio {statistic:.4g}, df {df}, p {pvalue:.3g}"
            )
        return out

    def _notes(self, names: list[str]) -> list[str]:
        report, out = self._report_or_raise(), []
        if self.separated:
            out.append("The classes are separated: the loss has no minimum, and these coefficients do not minimise it.")
            sets = [_listed(names, which) for which in report.separating]
            if sets:
                one = "this column" if len(report.separating[0]) == 1 else "these columns together"
                which = f"{one}: {sets[0]}" if len(sets) == 1 else f"each of these columns: {', '.join(sets)}"
                out.append(f"They are separated by {which}.")
        elif self.stderr is None:
            out.append(f"No standard errors: {self._why_no_errors()}.")
        elif not self.converged:
            out.append("The fit has not converged: coefficients and standard errors are not those of the minimum.")
        if report.weighted and self.stderr is not None:
            out.append("Weights count as numbers of rows. For others these standard errors are wrong: bootstrap.")
        if report.dependent:
            which = _listed(names, report.dependent)
            out.append(f"These columns are linearly dependent and have no standard errors: {which}. Remove one.")
        return out


def _in_line(text: str) -> str:
    """Return text with unprintable characters, such as line ends, escaped."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def _listed(names: list[str], which: Sequence[int]) -> str:
    return ", ".join(names[j] for j in which)


def _row(title: str, value: float, error: float, z: float, p: float, low: float, high: float) -> str:
    if not 0 < error < math.inf:
        return f"{title} {value:12.6g}"
    return f"{title} {value:12.6g} {error:12.6g} {z:9.3f} {p:7.3f} {low:12.6g} {high:12.6g}"
