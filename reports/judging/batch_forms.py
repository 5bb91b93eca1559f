"""Which rule the learning rate follows as the batch size grows: those that people use, held against a series of edges.

Rules of thumb keep the learning rate, scale it with the batch size (linear: Goyal et al. 2017, "Accurate, Large Minibatch SGD")
or with its square root (Krizhevsky 2014, "One weird trick for parallelizing convolutional neural networks"). Laws bend:
saturating (McCandlish et al. 2018, "An Empirical Model of Large-Batch Training") and, for Adam, surge (Li et al. 2024, "Surge
Phenomenon in Optimal Learning Rate and Batch Size Scaling"); a power law has a free exponent.
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pandas as pd

from reports.judging.batch_law import SCATTER, Centre
from reports.style import format_number

Floats = npt.NDArray[np.float64]
FEWEST = 5  # batch sizes, for laws of two parameters to be told apart
LEVEL = 2.0  # difference of AIC up to which a law is as good as the best
REFUTED = 10.0  # from which it has no support (both: Burnham & Anderson 2002, "Model Selection and Multimodel Inference", 2.6)
NOISE_SCALES = np.linspace(-1, 5, 241)  # log10 of the batch size at which a law bends
RULES: dict[str, float] = {"constant": 0.0, "square root": 0.5, "linear": 1.0}
"""The exponent of each rule of thumb."""


def compare_forms(centres: Sequence[Centre]) -> pd.DataFrame:
    """Each form fitted by weighted least squares to where an edge lies; bounds are left out.

    Columns: ``form``; ``parameters``; ``aic``, Akaike's criterion less that of the best, with the known errors of the centres
    and the usual scatter about a law; ``error``, the mean distance in decades at a batch size that the form was not fitted to,
    each in turn. Best first, empty for fewer than five batch sizes.
    """
    known = [centre for centre in centres if not centre.side]
    x, y, errors = np.array([centre[:3] for centre in known], dtype=float).reshape(-1, 3).T
    x, weights = np.log10(x), 1 / (errors**2 + SCATTER[0] ** 2)
    rows = []
    for form in (*RULES, "power", "saturating", "surge") if len(known) >= FEWEST else ():
        parameters = 1 if form in RULES else 2
        misfit = float((weights * (y - _fitted(form, x, y, weights, x)) ** 2).sum())
        left_out = []
        for index in range(len(x)):
            rest = np.arange(len(x)) != index
            left_out.append(abs(float(_fitted(form, x[rest], y[rest], weights[rest], x[[index]])[0]) - y[index]))
        rows.append({"form": form, "parameters": parameters, "aic": misfit + 2 * parameters, "error": np.mean(left_out)})
    table = pd.DataFrame(rows, columns=["form", "parameters", "aic", "error"]).sort_values("aic", ignore_index=True)
    return table.assign(aic=table["aic"] - table["aic"].min())


def tell_forms(forms: pd.DataFrame) -> str:
    """Which forms are as good as the best, and by how much the rules are off that the series refutes; "" where there are none.

    >>> rows = [["saturating", 2, 0.0, 0.04], ["power", 2, 1.0, 0.05], ["constant", 1, 3.0, 0.1], ["linear", 1, 90.0, 0.5]]
    >>> tell_forms(pd.DataFrame(rows, columns=["form", "parameters", "aic", "error"]))
    'the data cannot tell between saturating and power; linear is off by 0.5 decades'
    """
    if forms.empty:
        return ""
    level = forms.loc[forms["aic"] <= LEVEL, "form"].tolist()
    refuted = forms[(forms["aic"] > REFUTED) & forms["form"].isin(list(RULES))]
    found = [f"a {level[0]} law fits best" if len(level) == 1 else f"the data cannot tell between {_and(level)}"]
    found += [f"{row.form} is off by {format_number(row.error, digits=2)} decades" for row in refuted.itertuples()]
    return "; ".join(found)


def _fitted(form: str, x: Floats, y: Floats, weights: Floats, at: Floats) -> Floats:
    """What a form fitted to (x, y), each (n_known,), says at ``at``, (n_at,); all in log10."""
    if form == "power":
        slope, top = np.polyfit(x, y, 1, w=np.sqrt(weights))
        return np.asarray(slope * at + top)
    bends = np.array([0.0]) if form in RULES else NOISE_SCALES
    shapes, there = (_shape(form, each[None, :], bends[:, None]) for each in (x, at))
    tops = ((y - shapes) * weights).sum(1) / weights.sum()
    best = int((weights * (y - shapes - tops[:, None]) ** 2).sum(1).argmin())
    return np.asarray(there[best] + tops[best])


def _shape(form: str, x: Floats, bend: Floats) -> Floats:
    if form in RULES:
        return RULES[form] * x + 0 * bend
    if form == "saturating":
        return np.asarray(-np.log10(1 + 10 ** (bend - x)))
    return np.asarray(-np.log10(10 ** ((bend - x) / 2) + 10 ** ((x - bend) / 2)))


def _and(names: Sequence[str]) -> str:
    return ", ".join(names[:-1]) + f" and {names[-1]}"
