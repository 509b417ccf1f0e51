"""What can be said: class names and phrase lists, and their loader.

Text only: nothing here knows arrays, models or caches, so importing it costs next to nothing.
"""

from .labels import lexicon_of_labels
from .lexicon import Lexicon, LexiconError
from .load import LexiconInfo, available_lexicons, load_lexicon

__all__ = [
    "Lexicon",
    "LexiconError",
    "LexiconInfo",
    "available_lexicons",
    "lexicon_of_labels",
    "load_lexicon",
]
