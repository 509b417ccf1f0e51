"""What goes wrong with a cache, in words for its user."""


class CacheError(Exception):
    """A cache that is missing, damaged or foreign. The message names the file and what to do next."""


class CacheMismatch(CacheError):
    """Features of one encoder or sampling were asked to live with those of another."""


class CacheBusy(CacheError):
    """Another process is writing to this cache."""
