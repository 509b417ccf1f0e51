"""Video files, image folders and segments -> uint8 pixels of chosen frames. Uses numpy, decord and PyAV; torch behind torchcodec alone."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
