"""The steps of a recipe: what changes a fingerprint, what does not, and what is refused before anything is made."""

import json
import shutil
from pathlib import Path

import pytest

from kd2mobile.errors import DataError, RecipeError, TeacherError, UnknownNameError, WeightsError
from kd2mobile.recipe.compose import compose
from kd2mobile.recipe.variants import Variant
from kd2mobile.stages.plan import check_student_weights, make_plan
from kd2mobile.store.artifact import Store

INT8 = Variant("none", "int8")

SMALL = {"student.name": "small_cnn", "student.weights": "none", "student.input_px": 16}


@pytest.fixture
def plan(digit_folder, tmp_path, monkeypatch):
    """A maker of the steps of a recipe over two digits; dots are underscores twice: teacher__epochs=1."""
    monkeypatch.chdir(tmp_path)

    def make(**settings):
        named = {name.replace("__", "."): value for name, value in settings.items()}
        return make_plan(
            compose(settings={"data.source": str(digit_folder), **SMALL, **named}), Store(tmp_path / "store")
        )

    return make


def step_of(made, name):
    """The step by its stage, of a student by its role."""
    return (made.steps | made.students)[name]


def differs(plan, step, given, **change):
    """Whether the step's fingerprint is another one after the change."""
    return step_of(plan(**given), step).fingerprint != step_of(plan(**given | change), step).fingerprint


def files(folder):
    for name in ("mine.keras", "body.h5", "other.h5", "names.txt", "more.txt", "logits.npz"):
        (folder / name).write_text(name)


NOTHING = {"teacher__weights": "none"}
HEAD = {"teacher__weights": "body.h5"}
UNFROZEN = {"teacher__weights": "imagenet", "teacher__fine_tune_epochs": 1}
FILE = {"teacher__name": "mine.keras"}
LOGITS = {"teacher__name": "logits.npz"}
FILE_UNFROZEN = FILE | {"teacher__fine_tune_epochs": 1}


@pytest.mark.parametrize(
    ("given", "change", "matters"),
    [
        (NOTHING, {"epochs": 9}, True),
        (NOTHING, {"learning_rate": 0.5}, True),
        (NOTHING, {"fine_tune_epochs": 2}, False),
        (NOTHING, {"fine_tune_learning_rate": 0.5}, False),
        (NOTHING, {"input_px": 299}, False),
        (NOTHING, {"input_px": 300}, True),
        (NOTHING, {"seed": 1}, True),
        (HEAD, {"weights": "other.h5"}, True),
        (HEAD, {"epochs": 9}, False),
        (HEAD, {"learning_rate": 0.5}, False),
        (HEAD, {"fine_tune_learning_rate": 0.5}, False),
        (HEAD, {"fine_tune_epochs": 2}, True),
        (UNFROZEN, {"fine_tune_learning_rate": 0.5}, True),
        (UNFROZEN, {"epochs": 9}, False),
        (FILE, {"weights": "none"}, False),
        (FILE, {"epochs": 9}, False),
        (FILE, {"learning_rate": 0.5}, False),
        (FILE, {"fine_tune_learning_rate": 0.5}, False),
        (FILE, {"fine_tune_epochs": 2}, True),
        (FILE, {"input_px": 32}, True),
        (FILE, {"preprocess": "tf"}, True),
        (FILE, {"output": "logits"}, True),
        (FILE, {"classes": "names.txt"}, True),
        (FILE | {"teacher__classes": "names.txt"}, {"classes": "more.txt"}, True),
        (LOGITS, {"batch_size": 7}, False),
        (LOGITS, {"seed": 7}, False),
        (FILE_UNFROZEN, {"fine_tune_learning_rate": 0.5}, True),
    ],
)
def test_the_teacher_depends_on_what_can_change_it_alone(plan, tmp_path, given, change, matters):
    files(tmp_path)
    change = {f"teacher__{name}": value for name, value in change.items()}
    assert differs(plan, "teacher", given, **change) is matters
    assert differs(plan, "student", given, **change) is matters, "it goes on to what is made with it"


@pytest.mark.parametrize(
    ("change", "step", "matters"),
    [
        ({"teacher__dtype": "mixed_bfloat16"}, "teacher", False),
        ({"teacher__dtype": "mixed_bfloat16"}, "transfer", True),
        ({"teacher__dtype": "float32"}, "transfer", False),
        ({"label__batch_size": 7, "label__workers": 3}, "student", False),
    ],
)
def test_how_the_pass_runs_matters_where_it_can_change_logits(plan, change, step, matters):
    assert differs(plan, step, NOTHING, **change) is matters


def test_a_file_counts_by_its_content_and_so_does_its_description(plan, tmp_path):
    files(tmp_path)
    first = plan(**FILE).steps["teacher"].fingerprint
    (tmp_path / "mine.keras").rename(tmp_path / "moved.keras")
    assert plan(teacher__name="moved.keras").steps["teacher"].fingerprint == first
    (tmp_path / "teacher.json").write_text(json.dumps({"preprocess": "tf"}))
    described = plan(teacher__name="moved.keras").steps["teacher"].fingerprint
    (tmp_path / "moved.keras").write_text("something else")
    assert len({first, described, plan(teacher__name="moved.keras").steps["teacher"].fingerprint}) == 3


def test_what_a_file_alone_may_need_counts_only_where_it_is_given(plan, tmp_path):
    files(tmp_path)
    assert not {"preprocess", "classes", "output", "imagenet_classes"} & plan().steps["teacher"].config.keys()
    assert not {"preprocess", "classes", "output", "imagenet_classes"} & plan(**FILE).steps["teacher"].config.keys()
    named = plan(**FILE, teacher__classes="names.txt").steps["teacher"].fingerprint
    (tmp_path / "names.txt").rename(tmp_path / "moved.txt")
    assert plan(**FILE, teacher__classes="moved.txt").steps["teacher"].fingerprint == named, (
        "a file counts by its content"
    )


def test_logits_count_by_their_content_and_are_of_whole_images(plan, tmp_path):
    files(tmp_path)
    first, learned = plan(**LOGITS), plan(**FILE)
    assert first.steps["views"].config == {"whole": True, "resize": "stretch"} != learned.steps["views"].config
    (tmp_path / "logits.npz").write_text("other numbers")
    second = plan(**LOGITS)
    assert second.steps["teacher"].fingerprint != first.steps["teacher"].fingerprint
    assert second.steps["views"].fingerprint == first.steps["views"].fingerprint


def test_classes_of_imagenet_are_in_the_fingerprint_of_a_network_that_may_have_them(plan, digit_folder, tmp_path):
    photos = tmp_path / "photos"
    for digit, name in (("0", "tench"), ("1", "n02123045")):
        shutil.copytree(digit_folder / digit, photos / name)
    files(tmp_path)
    assert plan(data__source=str(photos)).steps["teacher"].config["imagenet_classes"] is True
    assert "imagenet_classes" not in plan(data__source=str(photos), **NOTHING).steps["teacher"].config


@pytest.mark.parametrize("field", ["weights", "input_px", "fine_tune_epochs", "preprocess", "classes"])
def test_fields_of_a_network_beside_logits_are_refused(plan, tmp_path, field):
    files(tmp_path)
    value = {"input_px": 64, "fine_tune_epochs": 1, "preprocess": "tf"}.get(field, "body.h5")
    with pytest.raises(TeacherError, match=f"teacher.{field}: must be left out: logits.npz is a file of logits"):
        plan(**LOGITS, **{f"teacher__{field}": value})


def test_a_saved_model_is_refused_with_the_line_that_converts_it(plan, tmp_path):
    (tmp_path / "two").mkdir()
    (tmp_path / "two" / "saved_model.pb").touch()
    with pytest.raises(
        TeacherError, match="teacher.name, two: must be .*, got a SavedModel folder. If Keras 2"
    ) as said:
        plan(teacher__name="two")
    assert "import tf_keras; tf_keras.models.load_model('two').save('teacher.h5')" in str(said.value)


def test_a_file_called_like_a_word_is_not_that_word(plan, tmp_path):
    before = plan(teacher__weights="none").steps["teacher"].fingerprint
    for name in ("none", "xception"):
        (tmp_path / name).write_text("a file")
    assert plan(teacher__weights="none").steps["teacher"].fingerprint == before


@pytest.mark.parametrize(
    ("loss", "change", "matters"),
    [
        ("kd", {"temperature": 2.0}, True),
        ("kd", {"hard_label_weight": 0.1}, True),
        ("kd-split", {"temperature": 2.0}, True),
        ("logits", {"temperature": 2.0}, False),
        ("logits", {"hard_label_weight": 0.1}, True),
        ("labels", {"temperature": 2.0}, False),
        ("labels", {"hard_label_weight": 0.1}, False),
        ("labels", {"epochs": 2}, True),
        ("kd", {"baseline": True}, False),
        ("kd", {"class_weights": True}, True),
        ("labels", {"class_weights": True}, True),
        ("kd", {"class_weights": False}, False),
    ],
)
def test_the_student_depends_on_what_its_loss_looks_at(plan, loss, change, matters):
    change = {f"distill__{name}": value for name, value in change.items()}
    assert differs(plan, "student", {"distill__loss": loss}, **change) is matters


def test_on_labels_alone_the_student_is_the_baseline(plan):
    asked, taught = plan(distill__loss="labels", distill__baseline=True), plan(distill__baseline=True)
    assert (
        asked.students["student"].fingerprint
        == asked.students["baseline"].fingerprint
        == taught.students["baseline"].fingerprint
    )
    assert "transfer" not in asked.students["student"].inputs and list(asked.requested_students) == [
        "student",
        "baseline",
    ]
    assert not differs(plan, "student", {"distill__loss": "labels"}, teacher__name="mobilenet")
    assert not differs(plan, "baseline", {}, distill__temperature=2.0)


@pytest.mark.parametrize(
    ("settings", "kind", "said"),
    [
        ({"student__input_px": 7}, RecipeError, "student.input_px: must be at least 8 for small_cnn, got 7. Use"),
        (
            {"student__train_layers": "last:0"},
            RecipeError,
            "student.train_layers: must be `all` or `last:N` with N of at",
        ),
        ({"student__name": "mlp-9000"}, RecipeError, "students, mlp-9000: must have layers of at most 8192 units, got"),
        ({"student__name": "small"}, UnknownNameError, "Did you mean 'small_cnn'?"),
        ({"student__weights": "imagenet"}, WeightsError, "small_cnn, ImageNet weights: must be `none` or a file"),
        (
            {"student__name": "squeezenet", "student__input_px": 64, "student__weights": "imagenet"},
            WeightsError,
            "_notop.h5",
        ),
        ({"student__weights": "."}, WeightsError, "student.weights, .: must be a weights file, `imagenet` or `none`"),
        ({"student__weights": "nothing"}, WeightsError, "got no such file. Check the path, or use `--student-weights"),
        ({"teacher__weights": "gone.h5"}, WeightsError, "teacher.weights, gone.h5: must be a weights file"),
        ({"teacher__weights": "."}, WeightsError, "got a folder. Check the path, or use `--teacher-weights none`"),
        (
            {"teacher__input_px": 64},
            TeacherError,
            "teacher.input_px: must be at least 71 for Xception, got 64. Use 299",
        ),
        (
            {"teacher__name": "."},
            TeacherError,
            "got a folder. Save the model with Keras as `model.save('teacher.keras",
        ),
        (
            {"teacher__name": "my.onnx"},
            TeacherError,
            "a .keras or .h5 file or an .npz file, got a .onnx file. Save the model with Keras as `model.save(",
        ),
        ({"teacher__name": "my.h5"}, TeacherError, "my.h5: must be a .keras or .h5 file, got no such file. Check the"),
        ({"teacher__name": "my.npz"}, TeacherError, "my.npz: must be an .npz file, got no such file. Check the path"),
        (
            {"teacher__preprocess": "tf"},
            TeacherError,
            "teacher.preprocess: must be left out: xception is a network of Keras with known pixels and "
            "classes, got tf. Leave it",
        ),
        (
            {"teacher__classes": "c.txt"},
            TeacherError,
            "teacher.classes: must be left out: xception is a network of Keras",
        ),
        (
            {"teacher__output": "logits"},
            TeacherError,
            "teacher.output: must be left out: xception is a network of Keras",
        ),
        ({"teacher__name": "my.keras"}, TeacherError, "my.keras: must be a .keras or .h5 file, got no such file"),
        ({"teacher__name": "Xcepton"}, UnknownNameError, "known names, got 'Xcepton'. Did you mean 'xception'?"),
        ({"distill__loss": "kdd"}, UnknownNameError, "Did you mean 'kd'?"),
        ({"data__source": "my photos"}, DataError, "my photos: must be a folder of photos, a CSV or TSV of path"),
        (
            {"data__source": "digit"},
            DataError,
            "got no such folder or file. Did you mean 'digits'? Check the path, or use",
        ),
    ],
)
def test_what_cannot_be_is_refused_before_anything_is_made(plan, tmp_path, settings, kind, said):
    with pytest.raises(kind) as caught:
        plan(**settings)
    assert said in str(caught.value)
    assert not (tmp_path / "store").exists()


def test_weights_beside_a_teacher_file_are_refused(plan, tmp_path):
    files(tmp_path)
    with pytest.raises(TeacherError, match=r"teacher.weights: must be left out: mine.keras has its own classes"):
        plan(**FILE, teacher__weights="body.h5")


def test_unlabelled_images_change_the_student_alone(plan, digit_folder, tmp_path, capsys):
    shutil.copytree(digit_folder / "0", tmp_path / "loose")
    plain, beside = plan(), plan(data__unlabelled="loose")
    for step in ("split", "views", "teacher", "transfer", "pixels", "baseline"):
        assert step_of(beside, step).fingerprint == step_of(plain, step).fingerprint, step
    assert beside.students["student"].fingerprint != plain.students["student"].fingerprint and not plain.unlabelled
    next((tmp_path / "loose").iterdir()).unlink()
    assert plan(data__unlabelled="loose").students["student"].fingerprint != beside.students["student"].fingerprint
    capsys.readouterr()
    on_labels = plan(data__unlabelled="loose", distill__loss="labels")
    assert (
        on_labels.students["student"].fingerprint == plain.students["baseline"].fingerprint and not on_labels.unlabelled
    )
    assert "data.unlabelled: not used, because the loss `labels` has no teacher" in capsys.readouterr().err
    with pytest.raises(
        RecipeError, match="distill.hard_label_weight: must be below 1 with data.unlabelled, got 1.0. At"
    ):
        plan(data__unlabelled="loose", distill__hard_label_weight=1.0)


def test_folders_apart_have_the_fingerprints_of_one_folder(plan, digit_folder, tmp_path):
    shutil.copytree(digit_folder, tmp_path / "whole" / "train")
    shutil.copytree(digit_folder, tmp_path / "whole" / "test")
    shutil.copytree(digit_folder, tmp_path / "elsewhere")
    whole = plan(data__source="whole")
    apart = plan(data__source="whole/train", data__test_source="elsewhere")
    assert (
        apart.steps["split"].fingerprint == whole.steps["split"].fingerprint
        and apart.students["student"].fingerprint == whole.students["student"].fingerprint
    )
    assert (apart.root / "test/0/0000.png") == Path("elsewhere/0/0000.png")


def test_a_folder_called_digits_is_not_taken_for_the_embedded_data(plan, tmp_path, capsys):
    (tmp_path / "digits").mkdir()
    assert plan(data__source="digits").root.is_relative_to(tmp_path / "store")
    assert "data digits: the images of that name are used; the folder is `--data ./digits`" in capsys.readouterr().err


def test_the_layers_that_are_trained_count_and_all_of_them_stand_as_before_the_field_was(plan):
    assert differs(plan, "student", {}, student__train_layers="last:2")
    assert differs(plan, "baseline", {}, student__train_layers="last:2")
    assert not differs(plan, "transfer", {}, student__train_layers="last:2")
    assert plan().students["student"].config["student"] == {"name": "small_cnn", "weights": "none", "input_px": 16}


def test_more_trained_layers_than_there_are_is_said_before_the_teacher():
    check_student_weights(compose(settings=SMALL | {"student.train_layers": "last:7"}))
    with pytest.raises(RecipeError, match=r"with N of at most 7, the layers with weights of small_cnn, got last:8"):
        check_student_weights(compose(settings=SMALL | {"student.train_layers": "last:8"}))


def test_a_students_weights_are_tried_before_the_teacher(tmp_path):
    from kd2mobile.students import build_student

    file = tmp_path / "body.weights.h5"
    build_student("small_cnn", 16, 3, "none", seed=0).save_weights(file)
    check_student_weights(compose(settings=SMALL | {"student.weights": str(file)}))
    check_student_weights(compose(settings=SMALL))
    with pytest.raises(WeightsError, match=r"layer conv1: must fit squeezenet"):
        check_student_weights(
            compose(settings={"student.name": "squeezenet", "student.input_px": 32, "student.weights": str(file)})
        )


def test_a_students_download_that_fails_is_said_before_the_teacher(monkeypatch):
    import keras

    real = keras.applications.MobileNet

    def offline(*args, weights, **options):
        if weights == "imagenet":
            raise Exception("URL fetch failure: no network")
        return real(*args, weights=weights, **options)

    monkeypatch.setattr(keras.applications, "MobileNet", offline)
    with pytest.raises(WeightsError, match=r"mobilenet025, ImageNet weights: must be downloaded by Keras"):
        check_student_weights(compose(settings={"student.weights": "imagenet"}))


@pytest.mark.parametrize("field", ["version", "author", "licence"])
def test_what_a_file_says_of_itself_is_in_its_fingerprint_alone(plan, field):
    bare, said = plan(), plan(**{f"export__{field}": "mine"})
    assert set(bare.exported("student", INT8).config) == {"precision", "calibration_images", "resize"}
    assert said.exported("student", INT8).fingerprint != bare.exported("student", INT8).fingerprint
    assert said.students["student"].fingerprint == bare.students["student"].fingerprint
    nothing = plan(**{f"export__{field}": ""})
    assert nothing.exported("student", INT8).fingerprint == bare.exported("student", INT8).fingerprint
