"""What the search costs and finds, replayed on grids that are trained for it, and other ways of the same price beside it."""

from __future__ import annotations

import math
import os
import tempfile
from collections.abc import Callable, Iterator, Sequence
from importlib.metadata import version
from typing import Any, NamedTuple

from benchmarks.finders import FINDERS, STEPS, suggestion
from studies.config import count

PER_DECADE = 10  # of the grids and of the search
REPEATED = 3  # seeds of each search; the others of a grid say what it promised
EARLY = 0.25  # of the budget, after which the constant cut ends every run


class Case(NamedTuple):
    """A network on its data, at one batch size; learning_rates: exponents of ten."""

    network: dict[str, Any]
    data: str
    batch_size: int
    epochs: int
    learning_rates: tuple[float, float]
    optimizer: str = "SGD"


def mlp(*hidden: int) -> dict[str, Any]:
    """An MLP with these widths."""
    return {"class_path": "MLP", "init_args": {"hidden": list(hidden)}}


CASES = {
    "digits-mlp-16": Case(mlp(64), "Digits", 16, 20, (-4, 1.6)),
    "digits-mlp-64": Case(mlp(64), "Digits", 64, 20, (-4, 1.6)),
    "digits-mlp-256": Case(mlp(64), "Digits", 256, 20, (-4, 1.6)),
    "wine-1": Case(mlp(16), "Wine", 1, 15, (-4.5, 1)),
    "wine-8": Case(mlp(16), "Wine", 8, 15, (-4, 1.5)),
    "wine-32": Case(mlp(16), "Wine", 32, 15, (-4, 1.5)),
    "diabetes-mlp-16": Case(mlp(32), "Diabetes", 16, 20, (-4, 1)),
    "diabetes-linear-331": Case(mlp(), "Diabetes", 331, 60, (-3, 1)),
    "digits-deep-64": Case(mlp(32, 32, 32), "Digits", 64, 12, (-3.5, 1.5)),
    "digits-wide-32": Case(mlp(256), "Digits", 32, 20, (-4, 1.5)),
    "digits-conv-64": Case({"class_path": "ConvNet", "init_args": {"width": 8}}, "Digits", 64, 8, (-3.5, 1.5)),
    "wine-32-adamw": Case(mlp(16), "Wine", 32, 15, (-5, 1), "AdamW"),
    "digits-mlp-64-adamw": Case(mlp(64), "Digits", 64, 12, (-5, 1), "AdamW"),
}


def study_of(case: Case, **options: Any) -> Any:
    """The configuration of a study of a case, over its range."""
    from studies import StudyConfig

    if case.optimizer != "SGD":
        options["optimizer"] = case.optimizer
    low, high = (float(f"{10**end:.6g}") for end in case.learning_rates)
    kind = "Regressor" if case.data == "Diabetes" else "ImageClassifier"
    return StudyConfig(
        model={"class_path": kind, "init_args": {"network": case.network}},
        data=case.data,
        batch_size=case.batch_size,
        epochs=case.epochs,
        learning_rate=(low, high),
        per_decade=PER_DECADE,
        **options,
    )


SIZES = {"digits-mlp": ("digits-mlp-256", "digits-mlp-64", "digits-mlp-16"), "wine": ("wine-32", "wine-8", "wine-1")}
"""Cases of one network, the largest batch size first."""


class Grid:
    """All runs of a case, each in full; passes: epochs that a way has taken of them so far.

    A run is determined by its learning rate and seed, so one that is ended early is the beginning of the full one.
    """

    def __init__(self, case: Case, n_seeds: int) -> None:
        from studies import Workload, curves_table, run_study, runs_table

        with tempfile.TemporaryDirectory() as folder:
            self.config = study_of(case, sampler="grid", seeds=n_seeds, storage=f"{folder}/s.db", name="grid")
            study = run_study(self.config)
            self.runs, self.curves = runs_table(study), curves_table(study)
        self.curves = self.curves[self.curves["metric"] == "height"].sort_values(["trial", "step"])
        self.case, (self.low, self.high) = case, self.config.learning_rate
        self.rates: list[float] = sorted(self.runs["learning_rate"].unique())
        self.seconds = float(self.runs["seconds"].sum())
        self.workload = Workload.of_config(self.config)
        self.steps = float((self.runs["steps"] / self.runs["epochs"]).max())
        self._at = {(rate, seed): index for index, rate, seed in self.runs[["learning_rate", "seed"]].itertuples()}
        self._curve = dict(list(self.curves.groupby("trial")))

    def begin(self) -> None:
        """A way begins: nothing is trained yet."""
        self.passes, self._rows, self._parts = 0.0, dict[tuple[float, int], Any](), dict[tuple[float, int], Any]()

    def train(self, rate: float, seed: int, is_over: Callable[[Any, Any], bool], *, as_if_end: bool = False) -> Any:
        """Train a run until it is over; as_if_end: then it counts as one of the full budget. Returns its heights."""
        from reports.judging.decided import BY_SEARCH
        from reports.judging.final_height import final_height

        trained = min(self.rates, key=lambda known: abs(math.log(known / rate)))  # the last of six digits may differ
        row = self.runs.loc[self._at[trained, seed]].copy()
        row["learning_rate"] = rate
        curve = self._curve[row["trial"]]
        epochs, heights = curve["epoch"].to_numpy(float), curve["value"].to_numpy(float)
        ends = (
            k for k in range(1, len(heights) - 1) if math.isfinite(heights[k]) and is_over(epochs[: k + 1], heights[: k + 1])
        )
        last = next(ends, len(heights) - 1)
        cut = last < len(heights) - 1
        self.passes += float(epochs[last]) if cut else float(row["epochs"])
        if cut:
            own = {"epochs": float(epochs[last]), "nonfinite_at": None}
            own["final_height"] = final_height(epochs[: last + 1], heights[: last + 1], ended_early=True)
            for name, value in (own | ({} if as_if_end else {"state": "PRUNED", "ended_early": BY_SEARCH})).items():
                row[name] = value
        self._rows[rate, seed], self._parts[rate, seed] = row, curve.iloc[: last + 1]
        return heights[: last + 1]

    def tables(self) -> tuple[Any, Any]:
        """``runs`` and ``curves`` of what was trained since it began."""
        import pandas as pd

        if not self._rows:
            return self.runs.head(0), self.curves.head(0)
        runs = pd.DataFrame(list(self._rows.values())).astype({"nonfinite_at": "Int64", "ended_early": object})
        return runs, pd.concat(list(self._parts.values()))


def never(epochs: Any, heights: Any) -> bool:
    """A run to the end."""
    return False


def search(grid: Grid, seeds: Sequence[int], price: float, ends: tuple[float, float] | None = None) -> Any:
    """This project's, at whatever price; ends: between which it begins, those of the grid by default. Returns what it asked."""
    from reports.judging.queries import Search, next_queries

    low, high = ends or (grid.low, grid.high)
    shape: dict[str, Any] = {"seeds": seeds, "epochs": float(grid.case.epochs), "per_decade": PER_DECADE}
    wanted = Search(low, high, lowest=grid.low, highest=grid.high, **shape)
    while queries := next_queries(*grid.tables(), wanted):
        for query in queries:
            grid.train(query.learning_rate, query.seed, query.is_over)
    return wanted


def search_sizes(grids: Sequence[Grid], seeds: Sequence[int]) -> float:
    """Search several batch sizes, the largest first, each from the edges of the last; passes, as a share of the grids'."""
    from reports.judging.verdicts import classify
    from studies.samplers.edges import range_at_next_size

    ends, full, passes = None, 0.0, 0.0
    for grid, following in zip(grids, (*grids[1:], None), strict=True):
        grid.begin()
        wanted = search(grid, seeds, 0.0, ends)
        per_pass = grid.case.epochs
        passes, full = passes + grid.passes / per_pass, full + len(grid.rates) * len(seeds)
        if following:
            factor = following.case.batch_size / grid.case.batch_size
            low, high = range_at_next_size(classify(*grid.tables(), wanted.thresholds), wanted, factor)
            ends = max(low, grid.low), min(high, grid.high)
    return passes / full


def coarse_grid(grid: Grid, seeds: Sequence[int], price: float) -> None:
    """Every k-th learning rate on all seeds, as dense as the price allows."""
    n = max(2, round(price / grid.case.epochs / len(seeds)))
    chosen = {round(k * (len(grid.rates) - 1) / (n - 1)) for k in range(n)}
    for index in sorted(chosen):
        for seed in seeds:
            grid.train(grid.rates[index], seed, never)


def random_rates(grid: Grid, seeds: Sequence[int], price: float) -> None:
    """Learning rates at random on a log scale."""
    import numpy as np

    chance = np.random.default_rng(seeds[0])
    while grid.passes < price:
        for seed in seeds:
            grid.train(grid.rates[int(chance.integers(len(grid.rates)))], seed, never)


def tpe(grid: Grid, seeds: Sequence[int], price: float) -> None:
    """Optuna's TPE, minimising the final height."""
    import optuna

    study = optuna.create_study(sampler=optuna.samplers.TPESampler(seed=seeds[0]))
    space = {"at": optuna.distributions.IntDistribution(0, len(grid.rates) - 1)}
    turn = 0
    while grid.passes < price:
        trial = study.ask(space)
        heights = grid.train(grid.rates[trial.params["at"]], seeds[turn % len(seeds)], never)
        study.tell(trial, float(heights[-1]))
        turn += 1


def asha(grid: Grid, seeds: Sequence[int], price: float) -> None:
    """Random learning rates, halved by Optuna's ``SuccessiveHalvingPruner``; a run counts by where it was pruned."""
    import numpy as np
    import optuna

    study = optuna.create_study(pruner=optuna.pruners.SuccessiveHalvingPruner(min_resource=1, reduction_factor=2))
    chance = np.random.default_rng(seeds[0])
    turn = 0
    while grid.passes < price:
        trial = study.ask()

        def is_over(epochs: Any, heights: Any, trial: Any = trial) -> bool:
            if epochs[-1] >= 1 and int(epochs[-1]) > int(epochs[-2]):
                trial.report(float(heights[-1]), int(epochs[-1]))
                return bool(trial.should_prune())
            return False

        rate = grid.rates[int(chance.integers(len(grid.rates)))]
        heights = grid.train(rate, seeds[turn % len(seeds)], is_over, as_if_end=True)
        study.tell(trial, float(heights[-1]))
        turn += 1


def constant_cut(grid: Grid, seeds: Sequence[int], price: float) -> None:
    """A grid, every run ended after a quarter of the budget as if that were its end."""
    until = EARLY * grid.case.epochs
    n = max(2, round(price / until / len(seeds)))
    for index in sorted({round(k * (len(grid.rates) - 1) / (n - 1)) for k in range(n)}):
        for seed in seeds:
            grid.train(grid.rates[index], seed, lambda epochs, heights: bool(epochs[-1] >= until), as_if_end=True)


WAYS: dict[str, Callable[[Grid, Sequence[int], float], None]] = {
    "search": search,
    "grid of the same price": coarse_grid,
    "random": random_rates,
    "TPE": tpe,
    "ASHA": asha,
    "constant cut": constant_cut,
}


def compare_searches(options: dict[str, Any]) -> None:
    """Print a Markdown table: what each way cost and how far off its edges were, over all cases and repeats; then each case."""
    import pandas as pd
    from rich.console import Console

    repeats = count("repeats", options["repeats"])
    say, rows, grids = Console(stderr=True, highlight=False).print, [], dict[str, Grid]()
    for name in options["cases"]:
        say(f"{name}: the grid on {repeats + REPEATED} seeds")
        grid = Grid(CASES[name], repeats + REPEATED)
        say(f"{name}: {repeats} searches, after {grid.seconds:.0f} s")
        rows += [{"case": name, **row} for row in _measure(grid, repeats)]
        grids[name] = grid
    for network, names in SIZES.items():
        if set(names) <= set(grids):
            found = [search_sizes([grids[name] for name in names], range(k, k + REPEATED)) for k in range(repeats)]
            rows += [{"case": network, "way": f"search, {len(names)} batch sizes", "passes": share} for share in found]
    table = pd.DataFrame(rows)
    if options["csv"] is not None:
        table.to_csv(options["csv"], index=False)
    libraries = ", ".join(f"{name} {version(name)}" for name in ("torch", "pytorch-lightning", "optuna"))
    print(f"{libraries}; {os.cpu_count()} cores; {repeats} repeats on {REPEATED} seeds each\n")
    sgd = table["case"].map(lambda name: name not in CASES or CASES[name].optimizer == "SGD")
    searched = table[table["way"] == "search"]
    for title, rows_of, by in (("SGD", table[sgd], "way"), ("AdamW", table[~sgd], "way"), ("case, searched", searched, "case")):
        if rows_of.empty:
            continue
        heads = "passes, % of the grid | low | high | divergent | 90 % intervals hold | recommended is good"
        print(f"| {title} | {heads} |\n|---|{'---|' * 6}")
        for key, group in rows_of.groupby(by, sort=False):
            passes, errors = group["passes"] * 100, [_error(group[column]) for column in ("low", "high", "divergent")]
            shares = [f"{group[column].mean():.0%}" if group[column].notna().any() else "-" for column in ("covered", "good")]
            print(f"| {key} | {passes.median():.1f} ({passes.max():.1f}) | {' | '.join([*errors, *shares])} |")
        print()


def _error(errors: Any) -> str:
    """Median and nine in ten of the errors in decades, and how often there is no edge; "-" for a way that looks for none."""
    found = errors[errors < math.inf]
    none = f", none {1 - len(found) / len(errors):.0%}" if len(found) < len(errors) else ""
    return f"{found.median():.2f} ({found.quantile(0.9):.2f}){none}" if errors.notna().any() else "-"


def _measure(grid: Grid, repeats: int) -> Iterator[dict[str, Any]]:
    """A row a repeat and way.

    ``passes``, as a share of the grid's on as many seeds; ``low``, ``high``, ``divergent``, the errors of the edges in decades
    against all seeds, inf where none was found; ``covered``, the share of other seeds' edges inside the intervals; ``good``,
    the share of other seeds on which the recommended learning rate is good, 0 where nothing is recommended.
    """
    from reports.judging.edges import EDGES, find_edges, fit_edges, seed_gaps
    from reports.judging.recommendation import recommend
    from reports.judging.verdicts import classify_both

    truth = classify_both(grid.runs, grid.curves)[0]
    gaps = seed_gaps(truth)[grid.case.batch_size]
    told = find_edges(truth).set_index("edge")["learning_rate"]
    full = len(grid.rates) * REPEATED * grid.case.epochs
    for first in range(repeats):
        seeds, price = list(range(first, first + REPEATED)), 0.0
        others = [seed for seed in range(repeats + REPEATED) if seed not in seeds]
        for way, train in WAYS.items():
            grid.begin()
            train(grid, seeds, price)
            price = price or grid.passes
            judged, cells = classify_both(*grid.tables())
            edges = find_edges(judged).set_index("edge")
            errors = [_off(edges["learning_rate"].get(edge, math.nan), told[edge]) for edge in EDGES]
            ends = {edge: (edges["low"].get(edge, math.nan), edges["high"].get(edge, math.nan)) for edge in EDGES}
            inside = [_holds(*ends[edge], *gaps[edge][seed][:2]) for edge in EDGES for seed in others]
            uses = recommend(judged, cells, fit_edges(judged))["learning_rate"].tolist() if len(cells) else []
            found = dict(zip(("low", "high", "divergent"), errors, strict=True))
            good = _share_good(truth, uses[0], others) if uses else 0.0
            yield {
                "way": way,
                "seed": first,
                "passes": grid.passes / full,
                **found,
                "covered": sum(inside) / len(inside),
                "good": good,
            }
        for way in FINDERS if grid.case.optimizer == "SGD" else ():
            rate = suggestion(way, grid.workload, grid.case.batch_size, first)
            nearest = min(grid.rates, key=lambda known: abs(math.log(known / rate))) if rate else None
            yield {
                "way": way,
                "seed": first,
                "passes": STEPS / grid.steps / full,
                "good": _share_good(truth, nearest, others) if nearest else 0.0,
            }


def _holds(low: float, high: float, below: float, above: float) -> bool:
    """Whether an interval holds the middle of a seed's gap, or a part of it where that is open: it ends somewhere beyond."""
    if 0 < below and above < math.inf:
        return low <= math.sqrt(below * above) <= high
    return low <= above and below <= high


def _share_good(runs: Any, rate: float, seeds: Sequence[int]) -> float:
    """Of seeds, those on which a learning rate is good."""
    here = runs[(runs["learning_rate"] / rate - 1).abs().lt(1e-4) & runs["seed"].isin(seeds)]
    return float((here["verdict"] == "good").mean())


def _off(found: float, truth: float) -> float:
    """Decades between two edges, inf where one was not found."""
    return abs(math.log10(found / truth)) if math.isfinite(found) and math.isfinite(truth) else math.inf
