"""The student learns: from the teacher's stored logits and the labels, or, as the baseline, from the labels alone."""
