"""Judged studies for trackers of runs: written into local folders that each tracker's own reader opens."""
