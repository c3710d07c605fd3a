"""A trial: this machine behind a wire."""
