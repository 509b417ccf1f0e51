"""Errors of a cache; their messages are for its user."""


class CacheError(Exception):
    """A cache that is missing, damaged or foreign. The message names the file and what to do next."""


class CacheMismatch(CacheError):
    """The features of a cache are of another encoder or sampling than those that would join them."""


class CacheBusy(CacheError):
    """Another process is writing to this cache."""
