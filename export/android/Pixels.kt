// Never built with an Android SDK: see README.md. From a photo to the pixels that a .tflite of kd2mobile takes: ../CONTRACT.md.
package com.example.classifier

import android.content.ContentResolver
import android.content.Context
import android.graphics.Bitmap
import android.graphics.Color
import android.graphics.ImageDecoder
import android.net.Uri
import java.io.File
import java.util.zip.ZipFile
import kotlin.math.abs
import kotlin.math.ceil
import kotlin.math.floor
import kotlin.math.max
import kotlin.math.min
import kotlin.math.roundToInt
import org.json.JSONObject

/** The description in the ZIP behind the model. */
class Description(val labels: List<String>, val resize: String, val px: Int)

/** A copy of the asset as a file, which ZipFile and the runtime can open. */
fun assetAsFile(context: Context, asset: String): File {
    val file = File(context.codeCacheDir, File(asset).name)
    context.assets.open(asset).use { from -> file.outputStream().use { from.copyTo(it) } }
    return file
}

fun readDescription(model: File): Description =
    ZipFile(model).use { behind ->
        fun text(name: String) = behind.getInputStream(behind.getEntry(name)).bufferedReader().use { it.readText() }
        val description = JSONObject(text("kd2mobile.json"))
        require(description.getInt("format") == 1) { "$model: made by a later kd2mobile" }
        Description(text("labels.txt").trimEnd('\n').split("\n"), description.getString("resize"), description.getInt("input_px"))
    }

/** The photo upright: ImageDecoder obeys EXIF, BitmapFactory does not. In software, so that its pixels can be read. */
fun openPhoto(resolver: ContentResolver, photo: Uri): Bitmap =
    ImageDecoder.decodeBitmap(ImageDecoder.createSource(resolver, photo)) { decoder, _, _ ->
        decoder.allocator = ImageDecoder.ALLOCATOR_SOFTWARE
    }

/** The photo in the form of the student's training images: px * px colours, row by row, as Bitmap.createBitmap takes them. */
fun toPixels(photo: Bitmap, description: Description): IntArray {
    val (width, height, px) = Triple(photo.width, photo.height, description.px)
    val side = when (description.resize) {
        "crop" -> 0.875 * min(width, height)
        "pad" -> max(width, height).toDouble()
        else -> null // stretch
    }
    val across = windows((width - (side ?: width.toDouble())) / 2, side ?: width.toDouble(), width, px)
    val down = windows((height - (side ?: height.toDouble())) / 2, side ?: height.toDouble(), height, px)
    val row = IntArray(width)
    val narrow = Array(height) { y ->
        photo.getPixels(row, 0, width, 0, y, width, 1)
        IntArray(3 * px) { i -> across[i / 3].sum { x -> channel(row[x], i % 3) } }
    }
    return IntArray(px * px) { i ->
        val (red, green, blue) = List(3) { c -> down[i / px].sum { y -> narrow[y][3 * (i % px) + c] } }
        Color.rgb(red, green, blue)
    }
}

/**
 * The value of the input for each pixel from 0 to 255: the pixel itself or, if the scale of the input is narrower, the
 * value that stands for pixel / 127.5 - 1.
 */
fun quantizedPixels(scale: Float, zeroPoint: Int): IntArray {
    val pixels = IntArray(256) { it }
    if (scale == 0f) return pixels
    val values = IntArray(256) { (floor((it - 127.5) / 127.5 / scale + 0.5).toInt() + zeroPoint).coerceIn(0, 255) }
    return if (pixels.all { abs(values[it] - it) <= 1 }) pixels else values
}

private fun channel(colour: Int, channel: Int): Int = colour shr (16 - 8 * channel) and 0xff

/** The pixels of a line, from `first` on, whose weighted mean is an output pixel. */
private class Window(val first: Int, val weights: DoubleArray) {
    inline fun sum(value: (Int) -> Int): Int {
        var total = 0.0
        for (i in weights.indices) total += weights[i] * value(first + i)
        return total.roundToInt().coerceIn(0, 255)
    }
}

/** One window for each of the `px` pixels to which `length` of a line of `size` pixels, from `start` on, is scaled.
 *
 * A triangle two output pixels wide, or two input pixels where it is scaled up. What the box holds beyond the line is
 * black: it counts, with nothing to add.
 */
private fun windows(start: Double, length: Double, size: Int, px: Int): List<Window> {
    val scale = length / px
    val reach = max(scale, 1.0)
    val ground = min(0, floor(start).toInt()) until max(size, ceil(start + length).toInt())
    return List(px) { i ->
        val centre = start + (i + 0.5) * scale
        fun weight(x: Int) = max(0.0, 1 - abs(x + 0.5 - centre) / reach)
        val near = max(ground.first, floor(centre - reach).toInt())..min(ground.last, ceil(centre + reach).toInt())
        val total = near.sumOf { weight(it) }
        val inside = max(near.first, 0)..min(near.last, size - 1)
        Window(inside.first, DoubleArray(inside.count()) { weight(inside.first + it) / total })
    }
}
