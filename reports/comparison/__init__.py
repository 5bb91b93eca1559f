"""Judged studies in, what they say together out: tables, sentences, figures, a page."""

from reports.comparison.tables import Comparison as Comparison
from reports.comparison.tables import compare as compare
