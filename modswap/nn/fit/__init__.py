"""Fit a catalogue module to a site: inputs, outputs, sizes, strides."""
