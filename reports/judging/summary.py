"""What a study or a comparison says, as one plain object for scripts and agents; ``reports/README.md`` describes its keys."""

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from reports.judging.answer import Answer
from reports.judging.at_batch_size import AtBatchSize
from reports.judging.judged import Judged
from reports.judging.ledger import describe_ledger
from reports.judging.recommendation import TO_DIVERGENT, TO_TOO_HIGH

SUMMARY = "answer.json"  # in the folder of a report
VERSION = 1  # of the keys; one more key does not change it
PLACES = ("good_from", "good_to", "diverges_from")

Summary = dict[str, Any]
"""Plain JSON: numbers are finite, what is not known is None."""


def summarize_study(name: str, judged: Judged, *, following: str = "") -> Summary:
    """What a study says; following: the command to run next, "" where there is none."""
    reasons = judged.recommendations.set_index("batch_size")["reason"].to_dict()
    return {
        "version": VERSION,
        "study": name,
        "thresholds": dict(vars(judged.thresholds)),
        "seeds": judged.n_seeds,
        "answers": [_answer(answer, str(reasons.get(answer.batch_size, ""))) for answer in judged.answers],
        "overall": judged.overall,
        "batch_sizes": judged.batch_sentences,
        "hold_out": records(judged.hold_out),
        "today": judged.own,
        "checks": [{"name": check.name, "passed": check.passed, "sentence": check.sentence} for check in judged.trust],
        "next": following,
        "cost": {"sentence": describe_ledger(judged.ledger), "ways": records(judged.ledger)},
        "remarks": judged.remarks,
    }


def summarize_batch_sizes(name: str, found: Sequence[AtBatchSize]) -> Summary:
    """What a study foretells at batch sizes."""
    answers = []
    for each in found:
        edges = {
            key: each.edges[edge]
            for key, edge in zip(PLACES[1:], (TO_TOO_HIGH, TO_DIVERGENT), strict=True)
            if edge in each.edges
        }
        answer: Summary = {"batch_size": each.batch_size, "tried": each.tried, "use": each.use, "safe": [each.low, each.high]}
        answer |= {"good_on": each.share, "decades_outside": each.decades}
        answer |= {key: {name: getattr(edge, name) for name in ("learning_rate", "low", "high")} for key, edge in edges.items()}
        answers.append(answer)
    return {"version": VERSION, "study": name, "at_batch_size": answers}


def records(table: pd.DataFrame) -> list[Summary]:
    """The rows of a table."""
    return [{str(name): _plain(value) for name, value in row.items()} for row in table.to_dict("records")]


def to_json(summary: Mapping[str, Any]) -> str:
    """A summary as text, in lines that people can read too."""
    return json.dumps(summary, indent=2, allow_nan=False) + "\n"


def _answer(answer: Answer, reason: str) -> Summary:
    edges = dict(zip(PLACES, answer.edges.values(), strict=False))
    return {
        "batch_size": answer.batch_size,
        "use": _plain(answer.use),
        "safe": [answer.low, answer.high] if answer.is_good else None,
        "good_on": _plain(answer.share),
        **{name: {key: _plain(edge[key]) for key in ("learning_rate", "low", "high")} for name, edge in edges.items()},
        "reason": reason,
        "price": answer.price,
        "note": answer.note,
    }


def _plain(value: Any) -> Any:
    """A number that JSON has a word for, a truth, a text, or None."""
    if value is None or pd.isna(value):
        return None
    value = value.item() if hasattr(value, "item") else value
    return None if isinstance(value, float) and not math.isfinite(value) else value
