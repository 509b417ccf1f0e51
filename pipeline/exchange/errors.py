"""The error of exports and imports; its message is for the user."""


class ExchangeError(Exception):
    """Features that cannot be written in a form, or that are not what they are said to be."""
