"""What the user got wrong, as one sentence: what, the rule, what came."""


class BadInput(ValueError):
    """Something that was given breaks a rule; the message says all that is to be known, and no traceback is needed."""
