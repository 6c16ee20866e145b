"""Files of `torch.save`: zips, and those from before torch 1.6."""
