"""From a folder of pictures to the views that teacher and student see: sources, scan, split, views, pixels."""
