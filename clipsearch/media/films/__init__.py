"""Films: read in a process of their own, which gives frames and facts."""
