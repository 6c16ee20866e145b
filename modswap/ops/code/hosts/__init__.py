"""Write the lines that keep a swap in the library whose model it is."""
