"""The table of replacement modules, and the record of a row."""
