"""What a search is refused for."""


class SearchError(ValueError):
    """A search that cannot be made. The message says why, and what to ask in its place."""
