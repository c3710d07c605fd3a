"""A .tflite measured by LiteRT.js on whatever opens a page: served here, timed and evaluated there."""
