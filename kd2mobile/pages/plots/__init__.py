"""Drawings on the pages: measured files, training curves, one image's answers. Matplotlib or Pillow, and no HTML."""
