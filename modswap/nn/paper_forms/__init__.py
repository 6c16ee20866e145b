"""Modules of the catalogue step by step as their papers have them, for reading and comparing.

Each is a function of the module and its input; it computes the module's output, to rounding.
"""
