"""Which image is train, val or test: what belongs together, the draw, and the split as it is stored."""
