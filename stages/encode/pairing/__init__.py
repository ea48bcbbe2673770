"""Parts of training pairs: the query, the passage that it should find, hard negatives."""
