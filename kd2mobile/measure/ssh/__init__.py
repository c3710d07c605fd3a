"""A Linux board over ssh as a device: files are copied to it, measured there and removed; the results are copied
back."""
