"""Where shards are embedded: in this process, or on a Ray cluster."""
