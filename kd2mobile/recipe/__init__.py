"""What to do: the tables of a recipe, written in TOML, as flags or as Python values."""
