"""Scripts that measure speed and quality beside a peer, in one run."""
