"""A Linux board over ssh as a device: what it needs is copied there, measured there, brought back and removed."""
