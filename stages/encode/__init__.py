"""Texts to vectors: training pairs, a fine-tuned encoder, embeddings."""
