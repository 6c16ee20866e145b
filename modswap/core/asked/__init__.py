"""Records of what the user asked for: recipes, patterns, conditions, jobs."""
