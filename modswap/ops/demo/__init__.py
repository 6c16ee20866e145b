"""The demonstration: a real network, trained on real images, for the main job to work on."""
