"""What a terminal shows of the same results: plain text, and tables by Rich where it is installed."""
