"""One .tflite in LiteRT, opened, timed and evaluated in a separate process."""
