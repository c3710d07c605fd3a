"""What is kept on disk: artifacts under their fingerprints, and runs that refer to them."""
