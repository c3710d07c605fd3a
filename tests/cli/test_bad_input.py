"""What users do wrong, through the command line: one line that says what, where and what to do, and exit code 2."""

import builtins
import io
import json
import os
import re
import shutil
import subprocess
import sys
import zlib
from pathlib import Path

import msgspec
import pytest

from kd2mobile.api import export as exporting
from kd2mobile.api.results import Exported, ExportedFile
from kd2mobile.backend import tensorflow_process
from kd2mobile.cli.commands import main_status
from kd2mobile.installation import install_command
from kd2mobile.recipe.compose import compose
from kd2mobile.store.run import STORE, start_run
from kd2mobile.students import STUDENTS
from kd2mobile.students.registry import Student
from kd2mobile.training import train
from tests.made_results import tflite_results

ONE_EPOCH = ["--views", "1", "--epochs", "1"]


@pytest.fixture
def photos(digit_folder, tmp_path, monkeypatch) -> Path:
    """Two class folders of ten images each, in the folder where the test runs."""
    monkeypatch.chdir(tmp_path)
    shutil.copytree(digit_folder, tmp_path / "photos")
    return tmp_path / "photos"


def keras_teacher(path: Path, outputs: int, last: float) -> None:
    import keras

    pixels = keras.Input((16, 16, 3))
    x = keras.layers.GlobalAveragePooling2D()(keras.layers.Rescaling(1 / 127.5, -1.0)(pixels))
    bias = keras.initializers.Constant(last)
    keras.Model(pixels, keras.layers.Dense(outputs, bias_initializer=bias)(x)).save(path)


@pytest.fixture
def other_classes(photos) -> list[str]:
    """The flags of a teacher that knows cats, dogs and birds, and of a small student that learns from it."""
    (photos.parent / "t").mkdir()
    keras_teacher(photos.parent / "t" / "teacher.keras", 3, 0.0)
    (photos.parent / "t" / "teacher.json").write_text('{"preprocess": "none", "classes": ["birds", "cats", "dogs"]}')
    student = ["--student", "small_cnn", "--student-weights", "none", "--input-px", "16", "--batch-size", "4"]
    return ["--data", "photos", "--teacher", "t/teacher.keras", *student]


def refused(capsys, arguments: list[str]) -> str:
    """The one line on stderr that a refused command ends with."""
    assert main_status(arguments) == 2
    said = capsys.readouterr().err
    assert "Traceback" not in said
    return said.splitlines()[-1]


def label(capsys, *more: str) -> str:
    """What `kd2mobile label --data photos` is refused with; by default with a teacher from nothing."""
    teacher = more or ("--teacher", "mobilenet", "--teacher-weights", "none", "--teacher-input-px", "32")
    return refused(capsys, ["label", "--data", "photos", "--set", "teacher.epochs=1", *teacher])


def test_an_empty_folder(photos, capsys):
    shutil.rmtree(photos)
    photos.mkdir()
    assert label(capsys).startswith("photos: must ")


def test_one_class(photos, capsys):
    shutil.rmtree(photos / "1")
    said = label(capsys)
    assert said.startswith("photos: must ") and "'0'" in said


def test_a_class_with_too_few_images_to_split(photos, capsys):
    for image in sorted((photos / "1").iterdir())[2:]:
        image.unlink()
    said = label(capsys)
    assert "'1'" in said or "/1" in said
    assert "2" in said and "must" in said


@pytest.mark.parametrize(
    ("arguments", "pipe", "save"),
    [
        ("check --recipe {}", "pipe", "the recipe to a file"),
        ("check --data {}", "x.csv", "the table to a file beside its images"),
        ("check --data mnist-like", "mnist-like/train-labels-idx1-ubyte", None),
        ("check --data mnist-like", "mnist-like/train-images-idx3-ubyte.gz", None),
        ("predict {model} photos/0/0.png --labels {}", "pipe", "the labels to a file"),
        ("benchmark --model {model} --data photos --labels {}", "pipe", "the labels to a file"),
        ("report --records {}", "pipe", None),
        ("distill --data photos --transfer-set {}", "pipe", None),
        ("distill --data photos --teacher {}", "t.npz", None),
        ("distill --data photos --teacher {}", "t.keras", None),
        ("distill --data photos --teacher xception --teacher-weights {}", "w.h5", None),
        ("distill --data photos --student-weights {}", "w.h5", None),
    ],
)
def test_a_pipe_is_refused_at_once_and_not_waited_for(photos, tmp_path, capsys, arguments, pipe, save):
    (tmp_path / "mnist-like").mkdir()
    for part in ("train-images-idx3-ubyte", "train-labels-idx1-ubyte"):
        if part not in pipe:
            (tmp_path / "mnist-like" / part).write_bytes(b"")
    os.mkfifo(pipe)
    model = Path(__file__).parents[2] / "models" / "mobilenet025-digits-int8" / "model.tflite"
    said = refused(capsys, arguments.format(pipe, model=model).split())
    assert pipe in said and ("got a pipe" in said or "got no record" in said)
    assert save is None or f"must be a regular file, got a pipe. Save {save}, and give that." in said


@pytest.mark.parametrize(
    "arguments",
    ["--teacher {}.keras", "--teacher {}.npz", "--teacher xception --teacher-weights {}.h5", "--student-weights {}.h5"],
)
def test_a_ring_of_links_is_not_called_missing(photos, capsys, arguments):
    for suffix in ("keras", "npz", "h5"):
        Path(f"ring.{suffix}").symlink_to(f"ring.{suffix}")
    said = refused(capsys, ["distill", "--data", "photos", *arguments.format("ring").split()])
    assert "ring." in said and ", got too many levels of symbolic links. Check the path" in said


def forbid_reading(monkeypatch, forbidden: Path) -> None:
    """Whoever opens that file is refused, as without read permission; chmod would not keep root from reading it."""
    really_open = io.open

    def guarded(file, *args, **kwargs):
        if not isinstance(file, int) and os.path.abspath(os.fsdecode(file)) == os.path.abspath(forbidden):
            raise PermissionError(13, "Permission denied", file)
        return really_open(file, *args, **kwargs)

    monkeypatch.setattr(builtins, "open", guarded)
    monkeypatch.setattr(io, "open", guarded)


@pytest.mark.parametrize("kind", ["zero-byte", "truncated", "renamed text", "decompression bomb", "unreadable"])
def test_a_bad_image_is_skipped_and_fatal_only_if_its_class_would_vanish(
    kind, photos, other_classes, capsys, monkeypatch
):
    bad = photos / "1" / "bad.png"
    whole = next((photos / "0").iterdir()).read_bytes()
    content = {
        "zero-byte": b"",
        "truncated": whole[: len(whole) // 2],
        "renamed text": b"hello, I am an image",
        "decompression bomb": bomb(),
        "unreadable": whole,
    }[kind]
    bad.write_bytes(content)
    if kind == "unreadable":
        forbid_reading(monkeypatch, bad)
    assert main_status(["distill", *other_classes, *ONE_EPOCH, "--run", "run"]) == 0
    capsys.readouterr()
    split = next((STORE / "split").glob("[!.]*")) / "split.json"
    (aside,) = json.loads(split.read_text("utf-8"))["skipped"]
    assert aside["path"] == "1/bad.png" and aside["reason"], "it is listed"
    if kind == "unreadable":
        assert aside["reason"] == "PermissionError: Permission denied"
    for image in (photos / "1").iterdir():
        if image != bad:
            image.unlink()
    said = label(capsys)
    assert "photos" in said and ("'1'" in said or "/1" in said)


def bomb() -> bytes:
    """A PNG of 30,000 x 30,000 pixels in few bytes."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return len(data).to_bytes(4, "big") + kind + data + zlib.crc32(kind + data).to_bytes(4, "big")

    header = (30000).to_bytes(4, "big") * 2 + bytes([8, 0, 0, 0, 0])
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(b"\0" * 1000))
        + chunk(b"IEND", b"")
    )


def test_names_with_spaces_quotes_newlines_and_unicode_are_just_names(photos, other_classes, capsys):
    (photos / "1").rename(photos / 'it\'s a "çlass"\n☃')
    odd = photos / "0" / "a b'\"\n☃.png"
    next((photos / "0").iterdir()).rename(odd)
    assert main_status(["distill", *other_classes, *ONE_EPOCH, "--run", "run dir"]) == 0
    assert main_status(["export", "--run", "run dir", "--precision", "fp32"]) == 0
    file = "run dir/export/small_cnn-fp32.tflite"
    capsys.readouterr()
    assert main_status(["predict", file, str(odd)]) == 0
    said = capsys.readouterr().out
    assert "☃" in said and "\\n" in said, "a newline in a name does not break a line in two"


def test_nan_in_the_teachers_logits(photos, capsys):
    from keras.layers import Dense, Flatten, Rescaling

    save_teacher(Rescaling(1e38), Flatten(), Rescaling(1e38), Dense(2))  # its weights are finite, its answers are not
    assert "must output finite logits, got NaN or infinity" in label(capsys, "--teacher", "mine.keras")


def test_nan_in_the_teachers_weights(photos, capsys):
    keras_teacher(photos.parent / "nan.keras", 2, float("nan"))
    assert "must hold finite weights, got NaN or infinity in " in label(capsys, "--teacher", "nan.keras")


def save_teacher(*layers) -> None:
    """mine.keras: 16 px in, these layers."""
    import keras

    keras.Sequential([keras.Input((16, 16, 3)), *layers]).save("mine.keras")


def test_a_teacher_with_custom_code(photos, capsys):
    from keras.layers import Dense, Flatten, Lambda

    save_teacher(Lambda(lambda x: x / 255), Flatten(), Dense(2))
    said = label(capsys, "--teacher", "mine.keras")
    assert (
        "mine.keras: must be a model of Keras's own layers, because custom code is never run, got a Lambda layer, which"
        in said
    )


def test_a_teacher_of_the_wrong_task(photos, capsys):
    from keras.layers import Conv2D, Dense, Flatten, Rescaling

    save_teacher(Rescaling(1 / 255), Conv2D(2, 3))
    assert "must output one number per class, got outputs [(None, 14, 14, 2)]: a map, as of a segmentation" in label(
        capsys, "--teacher", "mine.keras"
    )
    save_teacher(Rescaling(1 / 255), Flatten(), Dense(1))
    assert "got outputs [(None, 1)]: a single number, as of a regression or a yes-or-no question" in label(
        capsys, "--teacher", "mine.keras"
    )


def test_a_preprocessing_that_cannot_be_guessed_is_asked_for(photos, capsys):
    from keras.layers import Dense, Flatten

    save_teacher(Flatten(), Dense(2))
    said = label(capsys, "--teacher", "mine.keras")
    assert "mine.keras: must define the pixel values that it takes, got neither" in said
    assert "Give --teacher-preprocess, or write" in said and "one of tf, torch, caffe, none" in said
    Path("teacher.json").write_text('{"preprocess": "tf"}')
    said = label(capsys, "--teacher", "mine.keras", "--teacher-preprocess", "caffe")
    assert "teacher.preprocess: must be as in teacher.json, or left out, got caffe here, tf there." in said


def test_a_teacher_with_other_classes_in_its_description(photos, capsys):
    (photos.parent / "t").mkdir()
    keras_teacher(photos.parent / "t" / "teacher.keras", 2, 0.0)
    (photos.parent / "t" / "teacher.json").write_text('{"preprocess": "none", "classes": ["1", "0"]}')
    said = label(capsys, "--teacher", "t/teacher.keras")
    assert "must be the class '0', in the order of the sorted folders, got '1'" in said


def test_a_teacher_of_other_classes_gets_a_new_head(other_classes, capsys):
    assert main_status(["distill", *other_classes, *ONE_EPOCH, "--run", "run"]) == 0
    assert (
        "teacher.keras: its 3 outputs are not the 2 classes of the data; a new head is trained"
        in capsys.readouterr().err
    )
    teacher = next((STORE / "teacher").glob("[!.]*")) / "teacher.json"
    assert json.loads(teacher.read_text("utf-8"))["classes"] == ["0", "1"]


def test_a_transfer_set_of_another_recipe_given_by_hand(other_classes, capsys):
    assert main_status(["label", *other_classes[:4], "--views", "1"]) == 0
    folder = next((STORE / "transfer").glob("[!.]*"))
    said = refused(capsys, ["distill", *other_classes, "--views", "2", "--transfer-set", str(folder), "--run", "run"])
    assert said.startswith(f"{folder}: must be the transfer of this recipe, got ")
    assert "views.count: 2 here, 1 there" in said and "Build it again, or use the recipe it was made with." in said


def test_a_loss_that_leaves_the_finite_numbers(other_classes, capsys, monkeypatch):
    """With a learning rate far above the bound: below it whether a loss stays finite is chance."""
    train_student = train.train_student

    def train_wildly(folder, distill, *rest):
        return train_student(folder, msgspec.structs.replace(distill, learning_rate=1e30), *rest)

    monkeypatch.setattr(train, "train_student", train_wildly)
    said = refused(capsys, ["distill", *other_classes, "--views", "1", "--epochs", "2", "--run", "run"])
    assert re.match(
        r"small_cnn with the teacher, epoch 1, batch \d+/4, learning rate \S+: must have a finite loss", said
    )
    assert "Use a lower distill.learning_rate" in said


EPOCHS = 3
INTERRUPTED = """
import signal, sys
from kd2mobile import progress
from kd2mobile.cli.commands import run
say = progress.say

def interrupt(line):
    say(line)
    if line.startswith("epoch 1/"):
        signal.raise_signal(signal.SIGINT)

signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored where the tests run in the background
progress.say = interrupt
run()
"""


def test_ctrl_c_keeps_what_is_finished_and_the_same_command_goes_on(other_classes):
    settings = ["--views", "1", "--epochs", str(EPOCHS), "--set", f"distill.patience={EPOCHS}", "--run", "run"]
    command = ["distill", *other_classes, *settings]
    child = subprocess.run([sys.executable, "-c", INTERRUPTED, *command], capture_output=True, text=True)
    assert child.returncode == 130, child.stderr
    assert "Traceback" not in child.stderr
    last = child.stderr.splitlines()[-1]
    assert last == "interrupted: finished stages are kept. Run the same command to resume."

    again = subprocess.run([sys.executable, "-m", "kd2mobile", *command], capture_output=True, text=True)
    assert again.returncode == 0, again.stderr
    assert "(resuming an interrupted build)" in again.stderr
    assert f"small_cnn with the teacher: resuming after epoch 1/{EPOCHS}\n" in again.stderr
    trained = [line.partition(" ")[2] for line in again.stderr.splitlines() if line.startswith("epoch ")]
    assert not any(line.startswith("1/") for line in trained), "a finished epoch is not trained again"
    assert f"epoch {EPOCHS}/{EPOCHS} " in again.stderr and again.stdout.startswith("Validation top-1: ")


def test_weights_that_cannot_be_downloaded(photos, capsys, monkeypatch):
    import keras

    def offline(*args, **kwargs):
        raise Exception("URL fetch failure on https://example.invalid/xception_notop.h5: None -- no route to host")

    monkeypatch.setattr(keras.src.utils.file_utils, "get_file", offline)
    said = label(capsys, "--teacher", "xception", "--teacher-weights", "imagenet")
    assert "must be downloadable" in said
    assert "xception_notop.h5" in said and "give it with `--teacher-weights FILE`" in said


def test_weights_that_do_not_fit(photos, capsys):
    Path("text.h5").write_text("not weights")
    assert "text.h5" in label(capsys, "--teacher", "mobilenet", "--teacher-weights", "text.h5")


def curved(keras, input_px, classes):
    """A student with an op that LiteRT does not have."""
    pixels = keras.layers.Input((input_px, input_px, 3), name="pixels")
    x = keras.ops.erf(keras.layers.Conv2D(4, 3, name="conv")(pixels))
    x = keras.layers.GlobalAveragePooling2D(name="pool")(x)
    return keras.Model(pixels, keras.layers.Dense(classes, name="logits")(x), name="curved")


def test_layers_that_cannot_be_converted_and_a_missing_extra(other_classes, capsys, monkeypatch):
    monkeypatch.setattr(STUDENTS, "_entries", STUDENTS._entries | {"curved": Student(8, curved, "pool")})
    arguments = [*other_classes, "--student", "curved", *ONE_EPOCH, "--run", "run"]
    assert main_status(["distill", *arguments]) == 0
    assert refused(capsys, ["export", "--run", "run", "--precision", "fp32"]) == (
        "curved-fp32.tflite: must hold built-in LiteRT ops only, got tf.Erf. Build the student from layers that LiteRT "
        "has built-in ops for."
    )
    found, absent = tensorflow_process.find_spec, set()
    monkeypatch.setattr(tensorflow_process, "find_spec", lambda name: None if name in absent else found(name))
    for package, extra in {"tensorflow": "train", "tf_keras": "compress"}.items():
        absent.clear()
        absent.add(package)
        compression = "none" if extra == "train" else "qat"
        said = refused(capsys, ["export", "--run", "run", "--precision", "fp32", "--compress", compression])
        assert f"needs the package {package}, got an installation without it. Install it with " in said
        assert said.endswith(f"`{install_command(extra)}`.")


def test_a_budget_that_nothing_meets(photos, capsys, monkeypatch):
    """With files made up: whether a real one meets it is chance."""

    def exported(run, plan, variants, process):
        (variant,) = variants
        loss = {"int8": 0.03, "int8_dynamic": 0.02, "fp16": 0.004}.get(variant.name, 0.05)
        lost = {"difference": -loss, "interval_95": [-loss - 0.01, -loss + 0.01]}
        record = tflite_results(size_bytes=1000, against_student=lost)
        return Exported(run.folder / "export", [ExportedFile("student", variant.name, run.folder, record)])

    settings = {"data.source": "photos", "student.name": "small_cnn", "student.weights": "none"}
    start_run(compose(settings=settings), photos.parent / "run", STORE)
    monkeypatch.setattr(exporting, "make_students", lambda run, plan: None)
    monkeypatch.setattr(exporting, "export_run", exported)
    said = refused(capsys, ["export", "--run", "run", "--precision", "auto", "--max-drop", "0.1"])
    assert said == (
        "export.max_drop: must be reached by a file, at most 0.1 points, got fp16 at best, which loses 0.40 points. "
        "Allow more with --max-drop, or distil a larger student."
    )


def test_auto_stands_alone(photos, capsys):
    for given in ("auto,int8", "fp32, auto"):
        assert refused(capsys, ["export", "--precision", given]) == (
            f"--precision: must be auto alone, because it chooses the precisions itself, got {given}. "
            "Give --precision auto, or the precisions without it."
        )


@pytest.mark.parametrize("verb", ["inspect", "predict", "benchmark"])
@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("cut", "bad.tflite: must be a complete TensorFlow Lite model, got "),
        ("text", "bad.tflite: must be a TensorFlow Lite model, got a file that starts with "),
        ("empty", "bad.tflite: must be a TensorFlow Lite model, got an empty file. "),
    ],
)
def test_a_corrupt_tflite(photos, tiny_tflite, capsys, verb, content, said):
    whole = tiny_tflite.read_bytes()
    Path("bad.tflite").write_bytes({"cut": whole[: len(whole) // 2], "text": b"a text file", "empty": b""}[content])
    image = next((photos / "0").iterdir())
    arguments = {
        "inspect": ["bad.tflite"],
        "predict": ["bad.tflite", str(image)],
        "benchmark": ["--model", "bad.tflite", "--data", "photos"],
    }[verb]
    assert refused(capsys, [verb, *arguments]).startswith(said)
