"""Records of what a pass saw: values, calls, sites, layouts, module trees."""
