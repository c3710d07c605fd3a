// Never built with an Android SDK: see README.md. A .tflite of kd2mobile in LiteRT's Interpreter,
// which keeps TensorFlow Lite's names.
package com.example.classifier

import android.content.Context
import android.graphics.Bitmap
import java.nio.ByteBuffer
import java.nio.ByteOrder
import org.tensorflow.lite.DataType
import org.tensorflow.lite.Interpreter

/** asset: the file under assets/, such as "mobilenet025-int8.tflite". Not for several threads at once. */
class LiteRtClassifier(context: Context, asset: String, threads: Int = 2) : AutoCloseable {
    private val file = assetAsFile(context, asset)
    private val description = readDescription(file)
    private val interpreter = Interpreter(file, Interpreter.Options().setNumThreads(threads))
    private val takes = interpreter.getInputTensorFromSignature("image", "classify")
    private val gives = interpreter.getOutputTensorFromSignature("probabilities", "classify")
    private val takesFor = takes.quantizationParams().let { quantizedPixels(it.scale, it.zeroPoint) }
    private val image = ByteBuffer.allocateDirect(takes.numBytes()).order(ByteOrder.nativeOrder())
    private val answer = ByteBuffer.allocateDirect(gives.numBytes()).order(ByteOrder.nativeOrder())

    /** The names and probabilities of the likeliest classes of an upright photo, the likeliest first. */
    fun classify(photo: Bitmap, top: Int = 3): List<Pair<String, Float>> {
        image.rewind()
        for (colour in toPixels(photo, description)) {
            for (level in intArrayOf(colour shr 16 and 0xff, colour shr 8 and 0xff, colour and 0xff)) {
                if (takes.dataType() == DataType.FLOAT32) image.putFloat(level.toFloat()) // int16x8: still 0 to 255
                else image.put(takesFor[level].toByte())
            }
        }
        image.rewind()
        answer.rewind()
        interpreter.runSignature(mapOf("image" to image), mapOf("probabilities" to answer), "classify")
        answer.rewind()
        val probabilities = List(description.labels.size) {
            if (gives.dataType() == DataType.FLOAT32) answer.getFloat()
            else ((answer.get().toInt() and 0xff) - gives.quantizationParams().zeroPoint) * gives.quantizationParams().scale
        }
        return description.labels.zip(probabilities).sortedByDescending { it.second }.take(top)
    }

    override fun close() = interpreter.close()
}
