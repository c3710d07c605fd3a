"""The big models: the zoo, their preprocessing, and how one comes to know the user's classes."""
