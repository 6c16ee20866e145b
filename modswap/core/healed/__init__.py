"""A healing as plain data: what was measured, at which stage, at which site."""
