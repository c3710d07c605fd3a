"""A .tflite measured by LiteRT.js in the browser that opens a page: this host serves it, the browser times and
evaluates."""
