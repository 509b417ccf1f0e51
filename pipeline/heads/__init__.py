"""Cached embeddings + labels -> trained heads: classifiers, temporal modules, learned prompts, their files.

The names are in `__init__.pyi`, and each is imported when it is asked for.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
