"""Write one file of code that builds a swapped model and loads its weights, without modswap."""
