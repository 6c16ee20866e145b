"""ACmix on the projected map: local attention by dense tiles, and the folded convolution."""
