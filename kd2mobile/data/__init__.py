"""From folders of images to the pixels of their views: sources, scan, split, views, pixel store."""
