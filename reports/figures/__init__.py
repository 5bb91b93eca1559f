"""Judged tables in, matplotlib figures out: where learning rates work, how long they take, and how runs behave.

A verdict is always a colour and a shape (``reports.style``). Every ``plot_...`` returns the figure it drew in: a new one, or
the one of the ``ax`` it is given. Where a figure has a panel for each batch size, ``ax`` takes one and so must the table.
Nothing here shows, saves, or touches pyplot's global state.
"""

from reports.figures.batch_law import plot_batch_law as plot_batch_law
from reports.figures.batch_time import plot_batch_time as plot_batch_time
from reports.figures.bumps import plot_bumps as plot_bumps
from reports.figures.family import FIGURES as FIGURES
from reports.figures.family import draw_figures as draw_figures
from reports.figures.final_height import plot_final_height as plot_final_height
from reports.figures.learning_curves import plot_learning_curves as plot_learning_curves
from reports.figures.loss_and_metric import plot_loss_and_metric as plot_loss_and_metric
from reports.figures.search_order import plot_search_order as plot_search_order
from reports.figures.time_to_bottom import plot_time_to_bottom as plot_time_to_bottom
from reports.figures.verdict_map import plot_map as plot_map
