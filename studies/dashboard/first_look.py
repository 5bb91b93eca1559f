"""What one sees first in Optuna Dashboard: what to use and our charts above its own, and as best trials the runs to use."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from optuna.study._frozen import FrozenStudy
from optuna.trial import FrozenTrial
from optuna_dashboard import _app
from optuna_dashboard._custom_plot_data import get_plotly_graph_objects

from studies.dashboard.cards_and_notes import CHARTS
from studies.dashboard.local_server import App

RECOMMENDED = "learning_rates:recommended"  # system attribute of a study in the copy: runs of the learning rates to use
PLOT = "user-defined-plot:"  # how the ids of charts begin in the page
# The first page is a column: switches, the history and a grid of cards, the charts of ours third. Where a later version of the
# dashboard has other names, nothing matches, and its cards are as it has them.
STYLE = f"""<style>
fieldset:has(~ .MuiGrid-container [id^="{PLOT}"]) {{ order: 1; }}
fieldset:has(~ .MuiGrid-container [id^="{PLOT}"]) ~ .MuiCard-root {{ order: 2; }}
.MuiGrid-container:has([id^="{PLOT}"]) {{ margin-top: 0; }}
.MuiGrid-container > :has(> * > * > [id^="{PLOT}"]) {{ padding: 16px 0 0 16px; }}
.MuiGrid-container:has([id^="{PLOT}"]) > :has(table) {{ order: -2; }}
.MuiGrid-container > :has([id="{PLOT}{next(iter(CHARTS))}"]) {{ order: -1; }}
.MuiGrid-container:has([id^="{PLOT}"]) > :has(#graph-hyperparameter-importances, #graph-timeline) {{ order: 1; }}
</style>""".encode()
END = b"</head>"


def ours_first(app: App) -> App:
    """The dashboard with another order of the cards on the first page of a study, where it has charts of ours."""

    def styled(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        if not environ.get("PATH_INFO", "").startswith("/dashboard"):
            return app(environ, start_response)
        plain = {name: value for name, value in environ.items() if not name.startswith(("HTTP_IF_", "HTTP_RANGE"))}
        plain.pop("wsgi.file_wrapper", None)
        said: list[Any] = []
        content = app(plain, lambda *answer: said.append(answer))
        page = b"".join(content).replace(END, STYLE + END)
        getattr(content, "close", lambda: None)()
        status, headers, *rest = said[-1]
        kept = [(name, value) for name, value in headers if name.lower() not in ("content-length", "etag", "last-modified")]
        start_response(status, [*kept, ("Content-Length", str(len(page)))], *rest)
        return [page]

    return styled


def _in_order(attributes: dict[str, Any]) -> dict[str, str]:
    """The charts of a study, ours first: the dashboard has them in the order of a set, which is another one each time."""
    charts: dict[str, str] = get_plotly_graph_objects(attributes)
    return {name: charts[name] for name in CHARTS if name in charts} | charts


def _with_recommended(study: FrozenStudy, best: Sequence[FrozenTrial], *rest: Any) -> dict[str, Any]:
    """What the page of a study is told; the trial with the best value may be one of luck, and is no advice."""
    told: dict[str, Any] = _serialize(study, study.system_attrs.get(RECOMMENDED, best), *rest)
    return told


_serialize = _app.serialize_study_detail
_app.get_plotly_graph_objects = _in_order
_app.serialize_study_detail = _with_recommended
