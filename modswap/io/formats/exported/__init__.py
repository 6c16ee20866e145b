"""Archives of `torch.export` (`.pt2`)."""
