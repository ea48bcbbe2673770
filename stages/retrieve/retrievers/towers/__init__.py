"""Parts of the retriever two_tower: slots, bags, examples, the networks and their training."""
