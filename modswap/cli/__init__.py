"""The command line: read arguments, call one operation, print, exit code."""
