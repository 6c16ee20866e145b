"""End gates, and fold layers: the job of `modswap finalize`."""
