"""What a person reads in the end: one self-contained page, and the table that a terminal prints."""
