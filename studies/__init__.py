"""Learning-rate studies: Optuna drives, Lightning trains, tables come out."""

from pkgutil import extend_path

import lazy_loader

__path__ = extend_path(__path__, __name__)  # a user's folder of this name is found too; our modules come first

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
