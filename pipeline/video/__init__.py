"""Video files, image folders and segments -> uint8 pixels of chosen frames. Uses numpy, decord and PyAV, never torch.

The names are in `__init__.pyi`, and each is imported when it is asked for.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
