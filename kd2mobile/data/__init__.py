"""From a folder of images to the views that teacher and student see: sources, scan, split, views, pixels."""
