"""How a fine-tuning fails."""

from __future__ import annotations


class FinetuneError(Exception):
    """A training that cannot begin or go on. The message says why, and what to do."""
