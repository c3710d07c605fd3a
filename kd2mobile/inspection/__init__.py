"""Reads any .tflite from its bytes alone, without a runtime."""
