"""Cache + protocol + scorers -> results: test sets, metrics, comparisons, predictions, published figures."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
