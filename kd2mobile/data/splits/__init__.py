"""The split: finds the images that belong together, draws train, val and test, and writes the result."""
