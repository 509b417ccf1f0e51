"""A text, a video or an image -> the videos of a cache that are most like it, and when; near-duplicates."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
