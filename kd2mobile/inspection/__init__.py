"""What is in a .tflite, whoever made it, read from its bytes alone: no runtime opens it."""
