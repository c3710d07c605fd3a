"""Writes the tests' .tflite files into a folder; run by conftest.py in a process of its own, as it needs TensorFlow.

All of them look at the mean colour of 8 x 8 pixels: with r, g, b its channels in [-1, 1], the logits of the outputs
blue, green, red are 4b, 4g, 4r.
"""

import base64
import sys
from pathlib import Path

import numpy as np

PX = 8
MEAN, STD = np.float32([124, 116, 104]), np.float32([58, 57, 60])
"""Of wide_uint8 and wide_int8, whose logits are 2 (pixel - MEAN) / STD."""
METADATA = (
    "FAAAAE0wMDEMAAwACAAAAAAABAAMAAAACAAAAAgBAAABAAAAEAAAAAwADAAAAAAACAAEAAwAAAAIAAAAeAAAAAEAAAAYAAAAAAAS"
    "AAgAAAAAAAAAAAAAAAAABAASAAAABAAAAAIAAAAwAAAABAAAAOL///8AAAACBAAAAA0AAABteV9sYWJlbHMudHh0AAoADAAIAAAA"
    "BwAKAAAAAAAABAQAAAAJAAAAY2FsaWIudHh0AAAAAQAAABQAAAAAAA4ADAAIAAAAAAAAAAQADgAAAAgAAABEAAAAAQAAAAwAAAAI"
    "AAwACwAEAAgAAAAQAAAAAAAAAQgADAAIAAQACAAAAAgAAAAMAAAAAQAAAAAA/0IBAAAAAAD/QgUAAABpbWFnZQAAAAEAAAB4AAAA"
)
"""Written by tflite-support 0.4.4's own schema classes: mean and std 127.5 of the input; of the output first a score
calibration, calib.txt, then the labels of its axis, my_labels.txt."""


def main(folder: Path) -> None:
    import tensorflow as tf

    def converted(function, *shapes, dtype=tf.uint8, quantized=None, flex=False, sees=lambda x: x):
        module = tf.Module()
        specs = [tf.TensorSpec(shape, dtype) for shape in shapes]
        concrete = tf.function(function).get_concrete_function(*specs)
        converter = tf.lite.TFLiteConverter.from_concrete_functions([concrete], module)
        if flex:
            converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS, tf.lite.OpsSet.SELECT_TF_OPS]
        if quantized:
            converter.optimizations = [tf.lite.Optimize.DEFAULT]
            converter.representative_dataset = lambda: ([sees(one)] for one in colours())
            converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
            converter.inference_input_type = converter.inference_output_type = quantized
        return converter.convert()

    def colours():
        drawn = np.random.default_rng(0)
        for colour in [*np.array(np.meshgrid(*[[-1, 1]] * 3)).reshape(3, 8).T, *drawn.uniform(-1, 1, (24, 3))]:
            yield np.broadcast_to(colour, (1, PX, PX, 3)).astype(np.float32)

    swap = tf.constant(np.array([[0, 0, 4], [0, 4, 0], [4, 0, 0]], np.float32))
    behind_background = tf.constant(np.array([[0, 0, 0, 4], [0, 0, 4, 0], [0, 4, 0, 0]], np.float32))
    scaled = lambda x: tf.cast(x, tf.float32) / 127.5 - 1.0  # noqa: E731
    logits = lambda x, weights=swap: tf.matmul(tf.reduce_mean(x, [1, 2]), weights)  # noqa: E731
    square, whole = [1, PX, PX, 3], tf.nn.softmax
    conv = tf.constant(np.eye(3, dtype=np.float32)[None, None])
    quantizable = lambda x: whole(logits(tf.nn.conv2d(x, conv, 1, "SAME")))  # noqa: E731
    wide = {"dtype": tf.float32, "sees": lambda x: ((x + 1) * 127.5 - MEAN) / STD}
    half = lambda x: whole(logits(tf.nn.conv2d(x, conv / 2, 1, "SAME")))  # noqa: E731

    files = {
        "uint8": converted(lambda x: whole(logits(scaled(x))), square),
        "background": converted(lambda x: whole(logits(scaled(x), behind_background)), square),
        "logits": converted(lambda x: logits(scaled(x)), square),
        "sigmoid": converted(lambda x: tf.sigmoid(logits(scaled(x))), square),
        "nan": converted(lambda x: tf.math.log(logits(scaled(x)) - 10.0), square),
        "float": converted(lambda x: whole(logits(x)), square, dtype=tf.float32),
        "open_batch": converted(lambda x: whole(logits(x)), [None, PX, PX, 3], dtype=tf.float32),
        "pooled": converted(lambda x: tf.reshape(whole(logits(scaled(x))), [1, 1, 1, 3]), square),
        "full_uint8": converted(quantizable, square, dtype=tf.float32, quantized=tf.uint8),
        "full_int8": converted(quantizable, square, dtype=tf.float32, quantized=tf.int8),
        "wide_uint8": converted(half, square, quantized=tf.uint8, **wide),
        "wide_int8": converted(half, square, quantized=tf.int8, **wide),
        "two_inputs": converted(lambda x, y: whole(logits(scaled(x) + scaled(y))), square, square),
        "two_outputs": converted(lambda x: (whole(logits(scaled(x))), logits(scaled(x))), square),
        "grey": converted(lambda x: whole(tf.reduce_mean(scaled(x), [1, 3])), [1, PX, PX, 1]),
        "channels_first": converted(lambda x: whole(tf.reduce_mean(scaled(x), [2, 3])), [1, 3, PX, PX]),
        "batch": converted(lambda x: whole(logits(scaled(x))), [2, PX, PX, 3]),
        "open_size": converted(lambda x: whole(logits(scaled(x))), [1, None, None, 3]),
        "oblong": converted(lambda x: whole(logits(scaled(x))), [1, PX, PX + 2, 3]),
        "integers": converted(lambda x: whole(logits(tf.cast(x, tf.float32))), square, dtype=tf.int32),
        "heat_map": converted(lambda x: tf.reduce_mean(scaled(x), 2), square),
        "winner": converted(lambda x: tf.argmax(logits(scaled(x)), 1), square),
        "flex": converted(lambda x: tf.linalg.inv(scaled(x)[:, :3, :3, 0])[:, 0], square, flex=True),
    }
    files["described"] = with_metadata(files["float"])
    for name, content in files.items():
        (folder / f"{name}.tflite").write_bytes(content)


def with_metadata(model: bytes) -> bytes:
    """The model with TensorFlow Lite metadata inside: mean 127.5, std 127.5, the labels in my_labels.txt."""
    import flatbuffers
    from ai_edge_litert import schema_py_generated as schema

    stored = schema.ModelT.InitFromPackedBuf(model, 0)
    buffer, entry = schema.BufferT(), schema.MetadataT()
    buffer.data = np.frombuffer(base64.b64decode(METADATA), np.uint8)
    stored.buffers.append(buffer)
    entry.name, entry.buffer = "TFLITE_METADATA", len(stored.buffers) - 1
    stored.metadata = [*(stored.metadata or []), entry]
    builder = flatbuffers.Builder(0)
    builder.Finish(stored.Pack(builder), b"TFL3")
    return bytes(builder.Output())


if __name__ == "__main__":
    main(Path(sys.argv[1]))
