"""Bi-level routing attention on the projected map, in few launches and without cutting windows."""
