"""The time that the same runs take in several ways, and what a step takes with more and more members in one fit."""

from __future__ import annotations

import os
import statistics
import sys
import time
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.own_process import alone, peak_memory
from benchmarks.ways import start_ray, time_way
from benchmarks.works import WORKS, Work, operations, specs
from studies.config import count
from studies.storage.writable import require_writable

if TYPE_CHECKING:
    import pandas as pd

STEPS = 100  # timed of each member
WAYS_COLUMNS = "work | way | seconds, median (range) | naive / it | plain loop / it"
MEMBERS_COLUMNS = "work | members in one fit | ms a step and member | peak memory, MB"


def matmul_speed() -> float:
    """Floating-point operations a second of one matrix product, on as many threads as everything else here."""
    import torch

    n = 1024
    a, b = torch.randn(n, n), torch.randn(n, n)
    times = []
    for _ in range(20):
        began = time.perf_counter()
        torch.mm(a, b)
        times.append(time.perf_counter() - began)
    return 2 * n**3 / statistics.median(times)


def compare_speed(options: dict[str, Any]) -> None:
    """Time all ways in turn; print Markdown tables and write them, and a row a turn as CSV."""
    import pandas as pd

    repeats, members = count("repeats", options["repeats"]), [count("members", n) for n in options["members"]]
    root, out = options["data_root"], Path(options["out"])
    require_writable(out, "out")
    if "ray-tune" in options["ways"]:
        start_ray()
    peak, rows = matmul_speed(), []
    warm_up = WORKS["digits-mlp"]._replace(epochs=1, points=2, seeds=1)
    for way in options["ways"]:  # imports
        if way != "fused-2-workers":
            time_way(way, warm_up, root)
    for name in options["works"]:
        for turn in range(repeats):
            for way in options["ways"]:
                rows.append({"work": name, "way": way, "turn": turn, "seconds": time_way(way, WORKS[name], root)})
                print(f"{name} {way} {rows[-1]['seconds']:.1f} s", file=sys.stderr, flush=True)
    table = pd.DataFrame(rows)
    versions = ", ".join(f"{name} {version(name)}" for name in ("torch", "pytorch-lightning", "optuna"))
    threads = os.environ.get("OMP_NUM_THREADS", "any number of")
    machine = f"{os.cpu_count()} cores, {threads} threads a process, one matrix product {peak / 1e9:.0f} GFLOP/s"
    lines = [f"{machine}; {versions}", "", f"| {WAYS_COLUMNS} |", "|---|---|---|---|---|"]
    for name, of_work in table.groupby("work", sort=False):
        lines += rows_of_work(str(name), of_work, limit=operations(WORKS[str(name)], root) / peak)
    lines += ["", f"| {MEMBERS_COLUMNS} |", "|---|---|---|---|"]
    for name in [name for name in options["works"] if not name.endswith("-long")]:
        lines += [f"| {name} | {alone(time_members, n, WORKS[name], root)} |" for n in members]
    print("\n".join(lines))
    out.mkdir(parents=True, exist_ok=True)
    (out / "speed.md").write_text("\n".join(lines) + "\n")
    table.to_csv(out / "speed.csv", index=False)


def rows_of_work(name: str, table: pd.DataFrame, *, limit: float) -> list[str]:
    """A row a way, and one for the seconds that arithmetic alone would take; each beside the naive way and the plain loop."""
    times = table.groupby("way", sort=False)["seconds"]
    medians = times.median()
    told = {way: (medians[way], f"{medians[way]:.1f} ({each.min():.1f} to {each.max():.1f})") for way, each in times}
    return [
        f"| {name} | {way} | {text} | "
        + " | ".join(f"{medians[base] / seconds:.2f}" if base in medians else "" for base in ("naive", "plain-loop"))
        + " |"
        for way, (seconds, text) in (told | {"limit": (limit, f"{limit:.2f}")}).items()
    ]


def time_members(n: int, work: Work, root: str) -> str:
    """Cells of the table of members: training steps of n of them in one fit by this process."""
    from studies import Workload
    from studies.plan import Planned
    from studies.training.fixed import look_at
    from studies.training.fusing import time_alone, time_fused
    from studies.training.memory import keep_freed_memory

    keep_freed_memory()
    workload = Workload.of(**specs(work, root))
    fixed, members = look_at(workload, work.batch_size), [Planned(0.01 + 0.0001 * k, work.batch_size, 0) for k in range(n)]
    if n == 1:
        seconds, _ = time_alone(workload, members[0], STEPS, fixed)
    else:
        seconds, _ = time_fused(workload, members, STEPS, fixed)
    return f"{n} | {1000 * seconds / n:.3f} | {peak_memory():.0f}"
