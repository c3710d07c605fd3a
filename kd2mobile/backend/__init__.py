"""Keras on its backend, its files and states, and child processes."""
