"""Trains the student on the teacher's stored logits and the labels, or, as the baseline, on the labels alone."""
