"""Bytes on disk: atomic files, kernel copies, checksums, the layout of a torch zip."""
