"""Event files of TensorBoard, a folder a run; hyperparameters of ``hparams.yaml`` beside them or ``add_hparams``."""

import math
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from studies.admin.adopted.log import Log, curve, folders_of, number_of, read_hyperparameters
from studies.errors import BadInput

BEGIN = "events.out.tfevents."
PLUGIN = "_hparams_/session_start_info"


def read_event_files(places: list[str]) -> list[Log]:
    """A log for each folder with event files, all of them together, as one that was gone on with has several.

    Raises BadInput where there are some and the package ``tensorboard``, which reads them, is not installed.
    """
    folders = [folder for folder, files in folders_of(places) if any(BEGIN in name for name in files)]
    if folders and getattr(find_spec("tensorboard"), "origin", None) is None:  # a folder of that name is no package
        extra = "pip install 'learning-rate-studies[tensorboard]'"
        raise BadInput(f"event files, such as in {str(folders[0])!r}, need TensorBoard, which is not installed: {extra}")
    return [_read(folder) for folder in folders]


def _read(folder: Path) -> Log:
    from tensorboard.backend.event_processing.event_accumulator import SCALARS, TENSORS, EventAccumulator
    from tensorboard.util.tensor_util import make_ndarray

    events = EventAccumulator(str(folder), size_guidance={SCALARS: 0, TENSORS: 0})  # 0: all that there are
    events.Reload()
    points: dict[str, list[tuple[float, float, float]]] = {}
    for tag in events.Tags()["scalars"]:
        points[tag] = [(each.wall_time, each.step, each.value) for each in events.Scalars(tag)]
    for tag in events.Tags()["tensors"]:  # scalars as TensorFlow 2 writes them
        if events.SummaryMetadata(tag).plugin_data.plugin_name == "scalars":
            found = events.Tensors(tag)
            points[tag] = [(each.wall_time, each.step, float(make_ndarray(each.tensor_proto))) for each in found]
    times = [time for found in points.values() for time, _, _ in found]
    metrics = {tag: curve([step for _, step, _ in found], [value for *_, value in found]) for tag, found in points.items()}
    epochs = metrics.pop("epoch", curve([], []))
    seconds = max(times) - min(times) if times else math.nan
    return Log(str(folder), _hyperparameters(events) | read_hyperparameters(folder), metrics, epochs, seconds)


def _hyperparameters(events: Any) -> dict[str, str]:
    """What ``SummaryWriter.add_hparams`` wrote."""
    if PLUGIN not in events.summary_metadata:
        return {}
    from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData

    said = HParamsPluginData.FromString(events.summary_metadata[PLUGIN].plugin_data.content).session_start_info
    values = {
        name: getattr(value, value.WhichOneof("kind")) for name, value in said.hparams.items() if value.WhichOneof("kind")
    }
    return {name: number_of(str(value)) for name, value in values.items()}
