"""Bytes on the disk: atomic writes, copies by the kernel, checksums, the layout of a torch zip."""
