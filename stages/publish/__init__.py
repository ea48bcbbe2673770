"""One versioned bundle, and what loads it and answers from it."""
