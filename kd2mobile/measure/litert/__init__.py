"""One .tflite in LiteRT, opened, timed and asked in a process of its own."""
