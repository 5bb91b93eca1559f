"""What ends a study though nobody's input was wrong."""

from __future__ import annotations


class StudyInUse(RuntimeError):
    """Another process works on this study; the message names it."""


class FailedAlike(RuntimeError):
    """The user's module failed in run after run in the same way; the message tells how."""


class StorageAway(RuntimeError):
    """The database of a study was away for longer than is waited for; the message names it."""
