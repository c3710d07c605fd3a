// Never built with an Android SDK: see README.md. A .tflite of kd2mobile in MediaPipe's ImageClassifier.
package com.example.classifier

import android.content.Context
import android.graphics.Bitmap
import com.google.mediapipe.framework.image.BitmapImageBuilder
import com.google.mediapipe.tasks.components.containers.Category
import com.google.mediapipe.tasks.core.BaseOptions
import com.google.mediapipe.tasks.vision.core.RunningMode
import com.google.mediapipe.tasks.vision.imageclassifier.ImageClassifier

/** asset: the file under assets/, such as "mobilenet025-int8.tflite". */
class MediaPipeClassifier(context: Context, asset: String, top: Int = 3) : AutoCloseable {
    private val description = readDescription(assetAsFile(context, asset))
    private val classifier: ImageClassifier =
        ImageClassifier.createFromOptions(
            context,
            ImageClassifier.ImageClassifierOptions.builder()
                .setBaseOptions(BaseOptions.builder().setModelAssetPath(asset).build())
                .setRunningMode(RunningMode.IMAGE)
                .setMaxResults(top)
                .build(),
        )

    /** The likeliest classes of an upright photo: `categoryName()` and `score()` of each, the likeliest first.
     *
     * MediaPipe would stretch the whole photo itself, without antialiasing. Of an image that has the model's size
     * already it changes nothing.
     */
    fun classify(photo: Bitmap): List<Category> {
        val px = description.px
        val pixels = Bitmap.createBitmap(toPixels(photo, description), px, px, Bitmap.Config.ARGB_8888)
        val result = classifier.classify(BitmapImageBuilder(pixels).build())
        return result.classificationResult().classifications().first().categories()
    }

    override fun close() = classifier.close()
}
