"""What is computed, in packages from pixels to results; the names that most programs need are here.

They are in `__init__.pyi`, and each is imported when it is asked for; docs/python.md shows them at work.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
