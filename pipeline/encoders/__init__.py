"""Pixels and phrases -> embeddings."""
