"""Cached embeddings + labels -> trained heads."""
