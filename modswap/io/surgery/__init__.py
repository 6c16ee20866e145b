"""Changing a checkpoint as data: nothing in it is built, what stays is copied byte for byte."""
