"""Read and write pickles as data; no class that they name is imported."""
