"""The teachers: Keras's networks, the user's own models, their preprocessing, and how they learn the user's classes."""
