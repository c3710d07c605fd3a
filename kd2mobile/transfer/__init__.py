"""The transfer set: the teacher's raw logits for every view, computed once and stored."""
