"""Videos + encoder -> a cache of frame embeddings."""
