"""What needs no language model: keyphrases by YAKE, summaries by leading sentences."""
