"""A study for TensorBoard: a run ``answer`` with the answer and the map, and a run each with curves and hyperparameters."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

from PIL import Image

from reports.pages.templating import markdown_text
from reports.pages.written_file import replaced_folder

if TYPE_CHECKING:
    from reports.exports.exported import Exported, ExportedRun

FOLDER = "tensorboard"
ANSWER = "answer"  # the run that speaks for the study; its name comes before "batch ..."
OURS = "learning-rate-study"  # the end of the name of each event file that we write
SETTINGS = ("learning_rate", "batch_size", "seed", "verdict")
NUMBERS = ("final_height", "progress", "epochs_to_bottom")
LAST = "verdict/"  # the beginning of their tags, for which TensorBoard shows them together, below the curves


def look(place: Path) -> tuple[list[str], str]:
    """The command that shows it, and the page of the answer: of more than 40 runs TensorBoard at first shows no text."""
    return ["tensorboard", "--logdir", str(place)], f"http://localhost:6006/#text&regexInput={ANSWER}"


def strangers(place: Path) -> str:
    """The first file that is not one of our event files, "" where there is none."""
    files = sorted(path for path in place.rglob("*") if not path.is_dir() or path.is_symlink())
    return next((f"{str(path.relative_to(place))!r}" for path in files if path.suffix != f".{OURS}"), "")


def write(study: "Exported", place: Path) -> None:
    """Write event files, a folder a run, in place of those of an earlier export."""
    from tensorboard.plugins.hparams import summary_v2 as hparams

    verdicts = hparams.Discrete(sorted({run.settings["verdict"] for run in study.runs}))
    settings = [hparams.HParam(name, verdicts if name == "verdict" else None) for name in SETTINGS]
    numbers = [hparams.Metric(LAST + name, display_name=name) for name in NUMBERS]
    now = time.time()
    first = now - max((run.seconds for run in study.runs), default=0) - 1  # the answer: lists begin with the earliest run
    with replaced_folder(place) as new:
        with _events(new / ANSWER, first) as add:
            add(hparams.hparams_config_pb(settings, numbers, time_created_secs=now), 0, first)
            add(_text(ANSWER, study.answer), 0, first)
            if (picture := study.report / "figures" / "map.png").exists():
                add(_image(f"{ANSWER}/map", picture.read_bytes()), 0, first)
        for run in study.runs:
            with _events(new.joinpath(*run.place), now - run.seconds) as add:
                begin, last = now - run.seconds, max((curve[0][-1] for curve in run.curves.values()), default=0)
                pb = hparams.hparams_pb(run.settings, trial_id="/".join(run.place), start_time_secs=begin)
                add(pb, 0, begin)
                add(_text("reason", markdown_text(run.reason)), 0, begin)
                for step, summary in _scalars(run, last):
                    add(summary, step, begin + run.seconds * step / max(last, 1))


def _scalars(run: "ExportedRun", last: int) -> Iterator[tuple[int, Any]]:
    """Curves by step, an event for all metrics of a step, the final numbers with the last one."""
    from tensorboard.compat.proto.summary_pb2 import Summary

    by_step: dict[int, list[Any]] = {}
    curves = run.curves | {LAST + name: ([last], [number]) for name, number in run.numbers.items()}
    for name, (steps, values) in curves.items():
        for step, value in zip(steps, values, strict=True):
            by_step.setdefault(step, []).append(Summary.Value(tag=name or "unnamed", simple_value=value))
    yield from ((step, Summary(value=by_step[step])) for step in sorted(by_step))


def _text(tag: str, markdown: str) -> Any:
    from tensorboard.compat.proto.summary_pb2 import Summary
    from tensorboard.plugins.text.metadata import create_summary_metadata
    from tensorboard.util.tensor_util import make_tensor_proto

    tensor = make_tensor_proto([markdown.encode(errors="backslashreplace")])
    return Summary(value=[Summary.Value(tag=tag, metadata=create_summary_metadata(None, None), tensor=tensor)])


def _image(tag: str, png: bytes) -> Any:
    from tensorboard.compat.proto.summary_pb2 import Summary

    with Image.open(BytesIO(png)) as image:
        found = Summary.Image(width=image.width, height=image.height, colorspace=4, encoded_image_string=png)
    return Summary(value=[Summary.Value(tag=tag, image=found)])


@contextmanager
def _events(folder: Path, now: float) -> Iterator[Any]:
    """What adds summaries to a new event file, with their step and time."""
    from tensorboard.compat.proto.event_pb2 import Event
    from tensorboard.summary.writer.record_writer import RecordWriter

    folder.mkdir(parents=True)
    with (folder / f"events.out.tfevents.{now:.0f}.{OURS}").open("wb") as file:
        records = RecordWriter(file)
        records.write(Event(wall_time=now, file_version="brain.Event:2").SerializeToString())
        yield lambda summary, step, at: records.write(Event(step=step, wall_time=at, summary=summary).SerializeToString())
