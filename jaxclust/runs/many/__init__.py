"""k-means of features in shards that no machine holds at once: rows on disk, sums exchanged."""
