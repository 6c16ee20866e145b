"""Find what makes the sites in the source, and write the new modules there."""
