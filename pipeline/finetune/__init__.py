"""Labeled videos + an encoder -> a model folder: the encoder trained on pixels, with the head that it was trained under.

The names are in `__init__.pyi`, and each is imported when it is asked for.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
