"""Write the swapped model and prove what stayed."""
