"""Refused calls, and the ways in which their printed fixes can be taken."""
