"""The papers' checkpoint files -> model folders, which every other command takes."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
