"""A teacher from a .keras file: its softmax, its pixels, its classes and their order."""

import keras
import numpy as np
import pytest

from kd2mobile.errors import TeacherError
from kd2mobile.inspection.labels import read_labels
from kd2mobile.teachers.file import TeacherFile, check_probabilities, classes_fit
from kd2mobile.teachers.teacher import check_logits, check_not_probabilities, check_order, open_teacher
from tests.teachers.conftest import CLASSES, PX, knower, raw, read

L = keras.layers


@pytest.mark.parametrize(
    "tail",
    [[L.Softmax(name="end")], [L.Activation("softmax", name="end")], [L.Dense(3, activation="softmax", name="end")]],
    ids=["Softmax", "Activation", "Dense"],
)
def test_a_final_softmax_is_removed_and_reported(save, capsys, tail):
    model = knower(*tail)
    file = read(save(model))
    assert len(file.changes) == 1 and "softmax" in file.changes[0] and "'end'" in file.changes[0]
    assert f"mine.keras: {file.changes[0]}" in capsys.readouterr().err
    logits, probabilities = raw(file.model), raw(model)
    assert np.abs(logits - probabilities).max() > 0.01
    soft = np.exp(logits - logits.max())
    np.testing.assert_allclose(soft / soft.sum(), probabilities, atol=1e-6)


def test_the_softmax_of_a_nested_model_is_removed(save):
    inner = keras.Sequential([keras.Input((PX, PX, 3)), L.Rescaling(1 / 255), L.Flatten(), L.Dense(3, "softmax")])
    model = keras.Sequential([keras.Input((PX, PX, 3)), inner])
    file = read(save(model))
    assert "softmax" in file.changes[0] and np.abs(raw(file.model) - raw(model)).max() > 0.01


def test_a_teacher_with_the_users_classes_stays_unchanged(save, make, capsys):
    folder, results = make(save(knower(L.Softmax()), {"preprocess": "none", "classes": CLASSES}))
    assert results.val.top1 == 1.0 and results.way == "file" and results.name == "mine.keras"
    assert "was removed" in results.changes[0]
    assert "teacher mine.keras: validation top-1 1.000" in capsys.readouterr().err
    teacher, described = open_teacher(folder, 8)
    assert described.classes == CLASSES and described.preprocess == "none"
    assert raw(teacher.model).max() > 1


def test_without_names_its_order_is_evaluated_by_its_answers(save, make):
    assert make(save(knower()))[1].val.top1 == 1.0


@pytest.mark.parametrize(
    "order", [["green", "blue", "red"], ["green", "red", "blue"]], ids=["two swapped", "all moved"]
)
def test_another_class_order_is_refused_by_its_answers(save, make, order):
    with pytest.raises(TeacherError, match="mine.keras: must .*, got .*. Its classes are probably in another order"):
        make(save(knower(classes=order)))


def test_another_class_order_is_refused_by_its_names(save, make):
    path = save(knower(), {"preprocess": "none", "classes": ["green", "blue", "red"]})
    with pytest.raises(
        TeacherError, match="mine.keras, output 0: must be the class 'blue', .* got 'green'. Its classes"
    ):
        make(path)


def test_weights_that_are_not_finite_are_refused_even_where_a_relu_hides_them(save, make):
    inputs = keras.Input((PX, PX, 3))
    hidden = L.Dense(4, activation="relu", name="hidden")
    model = keras.Model(inputs, L.Dense(3)(hidden(L.GlobalAveragePooling2D()(inputs))))
    hidden.set_weights([np.full((3, 4), np.nan), np.zeros(4)])
    with pytest.raises(TeacherError, match="mine.keras: must hold finite weights, got NaN .* in hidden/kernel"):
        make(save(model, {"preprocess": "none"}))


def test_a_teacher_no_better_than_chance_is_refused():
    labels = np.arange(60) % 3
    with pytest.raises(TeacherError, match=r"must be better than chance \(0.333\), got top-1 0.333"):
        check_order("mine.keras", np.tile([1.0, 0, 0], (60, 1)), labels, CLASSES, "")
    check_order("mine.keras", np.eye(3)[np.where(np.arange(60) % 4, labels, 0)], labels, CLASSES, "")


@pytest.mark.parametrize("beside", [None, {"preprocess": "none", "classes": ["a", "b", "c", "d"]}])
def test_other_classes_get_a_new_head(save, make, capsys, beside):
    _, results = make(save(knower(L.Softmax(), classes=["red", "green", "blue", "x"]), beside))
    assert results.val.top1 == 1.0 and results.way == "head"
    assert "its 4 outputs are not the 3 classes of the data; a new head is trained" in capsys.readouterr().err
    assert results.changes[-1] == "its head was replaced"


def test_as_many_classes_with_other_names_get_a_new_head_too(save, make):
    assert make(save(knower(), {"preprocess": "none", "classes": ["x", "y", "z"]}))[1].way == "head"


def test_a_head_that_cannot_be_replaced_is_refused(save, make):
    with pytest.raises(TeacherError, match="must end in a Dense layer, .* got Reshape. Give a teacher"):
        make(save(knower(L.Reshape((4,)), classes=["red", "green", "blue", "x"])))


def test_probabilities_offered_as_logits_are_refused(save, make):
    with pytest.raises(
        TeacherError, match="must output logits, got probabilities .* Give the numbers before the softmax"
    ):
        make(save(knower(L.Softmax(), L.Reshape((3,)))))


@pytest.mark.parametrize("layer", [L.Activation("sigmoid"), L.Dense(3, activation="sigmoid")])
def test_another_final_activation_is_refused(save, layer):
    with pytest.raises(TeacherError, match="must output logits, got the activation sigmoid"):
        read(save(knower(layer)))


def test_pixels_are_never_guessed(save, make):
    with pytest.raises(
        TeacherError, match="must define the pixel values that it takes, got neither a Rescaling"
    ) as caught:
        make(save(knower(rescaling=False)))
    assert 'teacher.json as {"preprocess": "tf"}: one of tf, torch, caffe, none' in str(caught.value)
    assert make(save(knower(rescaling=False), {"preprocess": "tf"}))[1].preprocess == "tf"


@pytest.mark.parametrize("text", ["[]", "{", '{"preprocess": "zscore"}'])
def test_a_description_that_is_wrong_is_refused(save, tmp_path, text):
    path = save(knower())
    (tmp_path / "teacher.json").write_text(text)
    with pytest.raises(TeacherError, match="teacher.json: must "):
        read(path)


def test_a_description_with_another_number_of_classes_is_refused(save, make):
    with pytest.raises(TeacherError, match="teacher.json: must list 3 classes, got 2. Give one name per output."):
        make(save(knower(), {"preprocess": "none", "classes": ["a", "b"]}))


def test_files_that_do_not_load_are_refused(tmp_path, save):
    with pytest.raises(TeacherError, match="gone.keras: must be a .keras or .h5 file, got no such file"):
        read(tmp_path / "gone.keras")
    (tmp_path / "text.keras").write_text("hello")
    with pytest.raises(TeacherError, match="text.keras: must be a Keras model of standard layers"):
        read(tmp_path / "text.keras")
    with pytest.raises(
        TeacherError, match="mine.keras: .* custom code is never run, got a Lambda layer, which carries"
    ):
        read(save(knower(L.Lambda(lambda x: x * 2))))


def test_other_inputs_and_outputs_are_refused(save):
    for shape in ((PX, PX, 1), (PX, 8, 3), (7,)):
        inputs = keras.Input(shape)
        with pytest.raises(TeacherError, match="must have one square RGB image as input"):
            read(save(keras.Model(inputs, L.Dense(2)(L.Flatten()(inputs)))))
    inputs = keras.Input((PX, PX, 3))
    with pytest.raises(TeacherError, match="must output one number per class"):
        read(save(keras.Model(inputs, L.Conv2D(2, 3)(inputs))))


def test_the_input_size_is_the_models_unless_it_takes_any(save):
    with pytest.raises(
        TeacherError, match="teacher.input_px: must be 16, the input of .*mine.keras, got 32. Leave it out"
    ):
        read(save(knower()), input_px=32)
    path = save(knower(px=None))
    with pytest.raises(TeacherError, match="accepts images of any size. Choose one with --teacher-input-px"):
        read(path)
    assert read(path, input_px=24).input_px == 24


def test_weights_beside_a_file_are_refused(save, make):
    with pytest.raises(TeacherError, match="teacher.weights: must be left out: .*mine.keras has its own classes"):
        make(save(knower()), weights="other.h5")


def test_flags_give_what_the_file_does_not(save, make, tmp_path):
    (tmp_path / "names.txt").write_text("blue\ngreen\nred\n", "utf-8-sig")
    _, results = make(save(knower(rescaling=False)), preprocess="tf", classes=str(tmp_path / "names.txt"))
    assert (results.way, results.preprocess, results.val.top1) == ("file", "tf", 1.0)


def test_the_names_in_a_file_of_classes_are_compared_with_the_folders(save, make, tmp_path):
    path = tmp_path / "names.txt"
    for text, message in (
        ("green\nblue\nred\n", "mine.keras, output 0: must be the class 'blue'"),
        ("blue\ngreen\n", "names.txt: must list 3 classes, got 2. Give one name per output."),
    ):
        path.write_text(text)
        with pytest.raises(TeacherError, match=message):
            make(save(knower()), classes=str(path))
    path.write_bytes(b"caf\xe9\n")
    with pytest.raises(TeacherError, match="names.txt: must be UTF-8 text, got byte 3 of 5 that is none"):
        make(save(knower()), classes=str(path))
    with pytest.raises(TeacherError, match="teacher.classes, gone.txt: must be a text file .* got no such file"):
        make(save(knower()), classes="gone.txt")


@pytest.mark.parametrize(
    ("text", "folders"),
    [
        ("0 blue\n1 green\n2 red\n", CLASSES),
        ("2: red\n0: blue\n1: green\n", CLASSES),
        ("blue \r\ngreen\r\nred\r\n\r\n", CLASSES),
        ("blue\ngreen\nred\n", ["blue ", "green", "red"]),
        ("cafe\u0301\ntea\n", ["caf\u00e9", "tea"]),
        ("0 blue\n1 green\n2 red\n", ["0 blue", "1 green", "2 red"]),
    ],
)
def test_a_file_of_classes_is_read_as_label_files_are(tmp_path, text, folders):
    assert classes_fit(_named(tmp_path, text, len(folders)), folders)


def test_numbers_do_not_hide_another_order(tmp_path):
    with pytest.raises(TeacherError, match="output 0: must be the class 'blue', .* got 'green'"):
        classes_fit(_named(tmp_path, "0 green\n1 blue\n2 red\n", 3), CLASSES)
    many = [f"{number} {'abcdefghijk'[number]}" for number in range(11)]
    with pytest.raises(TeacherError, match="output 2: must be the class '10 k', .* got '1 b'|got '2 c'"):
        classes_fit(_named(tmp_path, "\n".join(many), 11), sorted(many))
    assert not classes_fit(_named(tmp_path, "x\ny\nz\n", 3), ["0 blue", "1 green", "2 red"])


def _named(folder, text, outputs):
    path = folder / "names.txt"
    path.write_bytes(text.encode())
    names = read_labels(path, "--teacher-classes", TeacherError)
    return TeacherFile(folder / "mine.keras", None, None, PX, "none", outputs, names, path)


@pytest.mark.parametrize(
    ("answers", "message"),
    [
        ([[0.9, 0.8], [0.1, 0.3]], "Give the numbers before the sigmoid, or log\\(p\\): see docs"),
        ([[90, 10], [20, 80]], "Divide them by 100 at the model's end and save it again."),
        ([[-1, 3], [2, 0]], "Give `--teacher-output logits` if they are logits."),
        ([[1, 3], [2, 0]], "Give `--teacher-output logits` if they are logits."),
    ],
)
def test_the_suggested_next_step_is_not_refused_in_turn(answers, message):
    answers = np.array(answers, "f4")
    with pytest.raises(TeacherError, match=message):
        check_probabilities("mine.keras", answers)
    if "logits" in message:
        check_logits(answers, ["a", "b"], "mine.keras")
        check_not_probabilities(answers, "mine.keras")


@pytest.mark.parametrize(
    ("beside", "flags", "message"),
    [
        (
            {"preprocess": "tf"},
            {"preprocess": "none"},
            "teacher.preprocess: must be as in .*teacher.json",
        ),
        (
            {"output": "logits"},
            {"output": "probabilities"},
            "got probabilities here, logits there. Leave",
        ),
        (
            {"classes": ["a", "b", "c"]},
            {"classes": "names.txt"},
            "got .*names.txt here, others there. Leave",
        ),
    ],
)
def test_a_flag_against_the_description_is_refused(save, tmp_path, beside, flags, message):
    (tmp_path / "names.txt").write_text("x\ny\nz\n")
    flags = {name: str(tmp_path / value) if name == "classes" else value for name, value in flags.items()}
    with pytest.raises(TeacherError, match=message):
        read(save(knower(), beside), **flags)


def test_a_flag_that_agrees_with_the_description_is_accepted(save):
    assert read(save(knower(), {"preprocess": "tf", "output": "logits"}), preprocess="tf").preprocess == "tf"


def test_declared_probabilities_become_their_logarithm(save, make, capsys):
    model = knower(L.Softmax(), L.Reshape((3,)))
    folder, results = make(save(model), output="probabilities")
    assert results.val.top1 == 1.0 and "the logarithm of p, with p at least 1e-07" in results.changes[0]
    logits, probabilities = raw(open_teacher(folder, 8)[0].model), raw(model)
    np.testing.assert_allclose(logits, np.log(np.maximum(probabilities, 1e-7)), atol=1e-5)
    sure = keras.Model(
        model.inputs,
        L.Reshape((3,), name="flat")(L.Softmax(name="end")(L.Rescaling(1e4, name="sure")(model.layers[-3].output))),
    )
    assert raw(read(save(sure), output="probabilities").model).min() >= np.log(1e-7) - 1e-5


def test_a_softmax_is_removed_even_where_probabilities_are_declared(save):
    file = read(save(knower(L.Softmax())), output="probabilities")
    assert len(file.changes) == 1 and "removed" in file.changes[0]


def test_an_output_other_than_the_declared_one_is_refused(save, make):
    with pytest.raises(TeacherError, match="teacher.output: must be as in .*, which ends in a softmax, got logits."):
        read(save(knower(L.Softmax())), output="logits")
    with pytest.raises(TeacherError, match="ends in a log-softmax, got probabilities. Leave it out"):
        read(save(knower(L.Activation("log_softmax"))), output="probabilities")
    with pytest.raises(
        TeacherError, match="must output probabilities that sum to 1, as teacher.output says, got sums from"
    ):
        read(save(knower()), output="probabilities")


@pytest.mark.parametrize(
    ("head", "message"),
    [
        ([L.GlobalAveragePooling2D(), L.Dense(1)], "a single number, as of a regression or a yes-or-no question"),
        ([L.Conv2D(2, 3)], "a map, as of a segmentation or of features"),
        ([L.Reshape((-1, 3)), L.Dense(4)], "another shape"),
    ],
)
def test_a_teacher_of_another_task_is_refused(save, head, message):
    model = keras.Sequential([keras.Input((PX, PX, 3)), L.Rescaling(1 / 255), *head])
    with pytest.raises(TeacherError, match=f"must output one number per class, .*{message}. Give a classifier"):
        read(save(model))
    inputs = keras.Input((PX, PX, 3))
    twins = [L.Dense(2)(L.Flatten()(inputs)) for _ in range(2)]
    with pytest.raises(TeacherError, match="must output one number per class, .*: several outputs"):
        read(save(keras.Model(inputs, twins)))
