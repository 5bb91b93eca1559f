"""What a study taught: verdicts, ranges, figures and pages, from tables alone."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
