"""A .tflite timed on an Android phone, over adb."""
