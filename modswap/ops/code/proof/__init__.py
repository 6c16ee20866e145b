"""Prove in a fresh process that changed source builds the swapped model."""
