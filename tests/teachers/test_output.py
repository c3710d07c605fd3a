"""What a model file answers with: taken from its output's history, however it is spelled."""

import keras
import numpy as np
import pytest

from kd2mobile.errors import TeacherError
from kd2mobile.teachers.file import check_own_answers
from kd2mobile.teachers.kinds.own_model import OWN_MODEL
from kd2mobile.teachers.teacher import open_teacher
from tests.teachers.conftest import CLASSES, PX, knower, raw, read, teacher_config

L, ops = keras.layers, keras.ops


def ends(*tail):
    """A model of [batch, 3] that is the last step of another one."""
    return keras.Sequential([keras.Input((3,)), *tail])


def softmax(rows):
    powers = np.exp(np.asarray(rows, np.float64) - np.max(rows))
    return powers / powers.sum()


def members(combine):
    """Two members on one body, each with its softmax; combine: makes one answer of both."""
    inputs = keras.Input((PX, PX, 3))
    features = L.GlobalAveragePooling2D()(L.Rescaling(1 / 255)(inputs))
    answers = []
    for scale in (20.0, 3.0):
        member = L.Dense(3, activation="softmax")
        answers.append(member(features))
        member.set_weights([scale * np.eye(3, dtype="f4")[:, [2, 1, 0]], np.zeros(3, "f4")])
    return keras.Model(inputs, combine(*answers)), keras.Model(inputs, answers)


LAYERS = {
    "Dense(activation='softmax')": [L.Dense(3, activation="softmax")],
    "Dense(activation=Softmax())": [L.Dense(3, activation=L.Softmax())],
    "Softmax": [L.Softmax()],
    "Activation": [L.Activation("softmax")],
    "Softmax, then nothing": [L.Softmax(), L.Identity(), L.Dropout(0.5), L.Activation("linear")],
    "nested": [ends(L.Dense(4), L.Dense(3, activation="softmax"))],
    "nested twice": [ends(L.Dense(3), ends(L.Softmax()))],
}


@pytest.mark.parametrize("tail", LAYERS.values(), ids=LAYERS)
def test_a_softmax_layer_that_is_the_output_is_removed(save, tail):
    model = knower(*tail)
    file = read(save(model))
    logits = raw(file.model)
    np.testing.assert_allclose(softmax(logits), raw(model), atol=1e-6)
    assert np.abs(logits - raw(model)).max() > 0.01 and len(file.changes) == 1
    np.testing.assert_allclose(raw(file.own), raw(model), atol=1e-6, err_msg="the file's own answer stays")


def test_a_layer_that_is_used_before_keeps_its_softmax_there(save):
    twice = L.Dense(3, activation="softmax", name="twice")
    model = knower(twice, twice)
    kernel, bias = np.diag([5.0, 1.0, 0.5]), np.zeros(3)
    twice.set_weights([kernel, bias])
    file = read(save(model))
    before = raw(keras.Model(model.inputs, model.get_layer("answers").output))
    np.testing.assert_allclose(raw(file.model), softmax(before @ kernel) @ kernel, atol=1e-5)


OPERATIONS = {"ops.softmax": [ops.softmax], "nested": [keras.Model(x := keras.Input((3,)), ops.softmax(x))]}


@pytest.mark.parametrize("tail", OPERATIONS.values(), ids=OPERATIONS)
def test_a_softmax_of_an_operation_must_be_declared_probabilities(save, make, tail):
    model = knower(*tail)
    path = save(model)
    with pytest.raises(TeacherError, match="must output logits, got probabilities .*--teacher-output prob"):
        make(path)
    folder, results = make(path, output="probabilities")
    assert "removed" in results.changes[0]
    np.testing.assert_allclose(softmax(raw(open_teacher(folder, 8)[0].model)), raw(model), atol=1e-6)


COMBINED = {
    "(a + b) / 2": (lambda a, b: (a + b) / 2, lambda a, b: (a + b) / 2),
    "mean of stack": (lambda a, b: ops.mean(ops.stack([a, b]), axis=0), lambda a, b: (a + b) / 2),
    "clip": (lambda a, b: ops.clip(b, 1e-3, 1), lambda a, b: np.clip(b, 1e-3, 1)),
    "exp of log, so named": (lambda a, b: ops.exp(ops.log(ops.maximum(b, 1e-7))), lambda a, b: b),
}


@pytest.mark.parametrize(("combine", "expected"), COMBINED.values(), ids=COMBINED)
def test_declared_probabilities_by_operations_become_their_logarithm(save, make, combine, expected):
    model, both = members(combine)
    path = save(model)
    with pytest.raises(TeacherError, match=r"must (output|be) logits, got (probabilities|numbers of 0 to 1)"):
        make(path)
    folder, results = make(path, output="probabilities")
    assert results.val.top1 == 1.0 and "the logarithm of p" in results.changes[0]
    probabilities = expected(*(answer.astype(np.float64).ravel() for answer in both.predict_on_batch(pixels())))
    np.testing.assert_allclose(raw(open_teacher(folder, 8)[0].model), np.log(probabilities), atol=1e-4)


def pixels():
    return np.full((1, PX, PX, 3), 99.0)


TWICE = [([L.Softmax(), L.Softmax()], None), ([L.Softmax(), L.Activation("softmax")], "probabilities")]
TWICE += [([ops.softmax, ops.softmax], "probabilities")]


@pytest.mark.parametrize(("tail", "output"), TWICE, ids=["layers", "layers, said", "operations, said"])
def test_the_last_of_two_softmaxes_is_removed_and_the_loss_is_reported(save, make, capsys, tail, output):
    model = knower(*tail)
    folder, results = make(save(model), output=output)
    assert results.output == "logits" and "save the model with one softmax" in results.changes[1]
    teacher = open_teacher(folder, 8)[0]
    assert teacher.known_logits
    np.testing.assert_allclose(softmax(raw(teacher.model)), raw(model), atol=1e-6)
    assert "what is left ends in a softmax as well" in capsys.readouterr().err


def test_what_a_softmax_leaves_are_the_logits_whatever_they_sum_to(save, make):
    first, last = L.Dense(3, activation="softmax"), L.Dense(3, activation="softmax")
    model = knower(first, last)
    first.set_weights([np.eye(3) * 9, np.zeros(3)])
    last.set_weights([np.eye(3) * 9, np.zeros(3)])
    folder, results = make(save(model))
    teacher = open_teacher(folder, 8)[0]
    assert raw(teacher.model).sum() == pytest.approx(9, abs=1e-4), "which look like probabilities times 9"
    np.testing.assert_allclose(softmax(raw(teacher.model)), raw(model), atol=1e-6)
    assert results.output == "logits" and results.val.top1 == 1.0


def test_log_probabilities_are_logits(save, make):
    model, _ = members(lambda a, b: ops.log((a + b) / 2))
    folder, results = make(save(model))
    assert results.changes == []
    np.testing.assert_allclose(raw(open_teacher(folder, 8)[0].model), raw(model), atol=1e-5)


SIGMOIDS = {
    "Dense": [L.Dense(3, activation="sigmoid")],
    "Activation": [L.Activation("sigmoid")],
    "ops.sigmoid": [ops.sigmoid],
    "nested": [ends(L.Activation("sigmoid"))],
    "nested operation": [keras.Model(y := keras.Input((3,)), ops.sigmoid(y))],
    "a formula": [lambda x: 1 / (1 + ops.exp(-x))],
}


@pytest.mark.parametrize("output", [None, "probabilities"])
@pytest.mark.parametrize("tail", SIGMOIDS.values(), ids=SIGMOIDS)
def test_a_sigmoid_is_refused_by_any_spelling(save, make, tail, output):
    message = "activation sigmoid|before the sigmoid|must output probabilities that sum to 1|got probabilities times"
    with pytest.raises(TeacherError, match=message):  # a sure sigmoid's numbers sum to about 1 as well
        make(save(knower(*tail)), output=output)


def test_a_softmax_over_the_batch_is_refused(save):
    for tail in (L.Softmax(axis=0), lambda x: ops.softmax(x, axis=0)):
        with pytest.raises(TeacherError, match="must output logits, got a softmax over the batch"):
            read(save(knower(tail)))


def test_a_dict_or_list_of_one_answer_is_that_answer(save, make):
    model = knower()
    for outputs in ({"classes": model.outputs[0]}, [model.outputs[0]]):
        folder, results = make(save(keras.Model(model.inputs, outputs)))
        assert results.val.top1 == 1.0
        np.testing.assert_allclose(raw(open_teacher(folder, 8)[0].model), raw(model), atol=1e-5)
        for path in folder.iterdir():
            path.unlink()
    two = keras.Model(model.inputs, {"a": model.outputs[0], "b": model.outputs[0] + 1})
    with pytest.raises(TeacherError, match="must output one number per class, .*: several outputs"):
        read(save(two))


def test_a_new_head_stands_on_what_the_last_dense_layer_of_the_output_takes(save, make):
    inputs = keras.Input((PX, PX, 3))
    features = L.GlobalAveragePooling2D()(L.Rescaling(1 / 255)(inputs))
    with pytest.raises(TeacherError, match="must end in a Dense layer, .* got TrueDivide"):
        make(save(keras.Model(inputs, (L.Dense(4)(features) + L.Dense(4)(features)) / 2)))
    nested = keras.Model(inputs, ends(L.Dense(4))(features))
    assert make(save(nested))[1].way == "head"


def test_channels_first_is_refused(save):
    inputs = keras.Input((PX, PX, 3))
    pooled = L.GlobalAveragePooling2D(data_format="channels_first")(L.Permute((3, 1, 2))(L.Rescaling(1 / 255)(inputs)))
    with pytest.raises(TeacherError, match="must be channels_last, got channels_first. Build it with data_format"):
        read(save(keras.Model(inputs, L.Dense(3)(pooled))))


def test_the_stored_logits_are_compared_with_the_files_own_outputs(save):
    """Bounds by hand: of a logit of 16 float16 keeps 11 bits, steps of 1/64, so that half of one is 0.8 % of p."""
    file = read(save(knower(L.Softmax())))
    p = np.array([[0.7, 0.2, 0.1]])
    check_own_answers(file, None, p, np.log(p))
    check_own_answers(file, None, p * 1.04, np.log(p) + 3)  # normalized
    check_own_answers(file, None, p, np.log(p) + 16 + 1 / 200)
    check_own_answers(file, [2, 0], p, np.log(p[:, [2, 0]]))
    for wrong in (np.log(p) / 2, np.log(p[:, ::-1]), np.log(p) + [[0, 0, 0.05]]):
        with pytest.raises(TeacherError, match="must output logits whose softmax is the file's own output"):
            check_own_answers(file, None, p, wrong)
    with pytest.raises(TeacherError, match="must output probabilities that sum to 1"):
        check_own_answers(file, None, p * 1.2, np.log(p))
    logits = read(save(knower()))
    check_own_answers(logits, None, np.log(p), np.log(p))
    with pytest.raises(TeacherError, match="must output logits whose softmax is"):
        check_own_answers(logits, None, np.log(p), p)


def test_a_file_whose_outputs_differ_from_the_converted_model_is_refused(save, make, monkeypatch):
    """As where one member's softmax is taken off and the other's stays."""
    monkeypatch.setattr("kd2mobile.teachers.file.without_activation", lambda operation, tensor: tensor * 2)
    with pytest.raises(TeacherError, match="mine.keras: must output logits whose softmax is the file's own"):
        make(save(knower(L.Softmax())))


def test_the_config_records_that_the_output_was_read_by_its_history(save):
    config = OWN_MODEL.config(teacher_config(name=str(save(knower()))), CLASSES)
    assert config["logits_from"] == "the history of its output"
