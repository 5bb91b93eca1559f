"""What is trained: Lightning modules, networks, data held in memory, and the recorder that watches a run."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
