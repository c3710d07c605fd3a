"""Accuracy and latency of .tflite files, with numpy, Pillow and LiteRT alone."""
