"""Compression that knows about the teacher: quantization-aware training, pruning, clustering, all three in turn.

A compression is a chain of methods, and each method is one artifact: the student before it, fine-tuned with the loss
that it was distilled with, on the same stored transfer set. What comes out is a student.keras again, so that every
precision is exported from it as from any other; quantization-aware training leaves its fake-quantized graph beside it,
from which the int8 file is made. tensorflow-model-optimization knows Keras 2 models alone: it and tf_keras are imported
in a process of their own, see worker.
"""
