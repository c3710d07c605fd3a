"""The transfer set: the teacher's raw logits for every view, made once and kept on disk."""
