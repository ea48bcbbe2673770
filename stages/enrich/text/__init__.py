"""What needs no language model: keyphrases, leading sentences, the parts of a document."""
