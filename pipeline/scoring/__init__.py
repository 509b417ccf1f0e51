"""Embeddings -> scores, with nothing trained."""
