"""What ends a study with a sentence, though nobody's input was wrong."""

from __future__ import annotations


class StudyInUse(RuntimeError):
    """Another process works on this study; the message names it."""


class FailedAlike(RuntimeError):
    """The user's module failed in run after run in the same way; the message tells how."""


class StorageAway(RuntimeError):
    """The database of a study was away for longer than is waited for; the message names it."""


class StudyDamaged(ValueError):
    """What is stored of a study is not what was written; the message names it and the way out."""
