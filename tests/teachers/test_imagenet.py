"""ImageNet's own classes: the table, who is meant by a folder's name, and networks that keep their head."""

import json

import keras
import msgspec
import numpy as np
import pytest

from kd2mobile.errors import TeacherError
from kd2mobile.teachers.body import build_whole
from kd2mobile.teachers.imagenet import ambiguous_names, imagenet_classes, imagenet_numbers, in_imagenets_order
from kd2mobile.teachers.kinds import kind_of
from kd2mobile.teachers.reading import TeacherImages
from kd2mobile.teachers.teacher import open_teacher
from kd2mobile.teachers.zoo import TEACHERS
from tests.teachers.conftest import PX, make_images, teacher_config, tiny
from tests.teachers.test_body import TINY, WEIGHTS

FOLDERS = ["jay", "n02123045", "tiger_cat"]
OUTPUTS = [17, 281, 282]


def test_the_table_has_a_thousand_ids_in_order_and_known_anchors():
    ids, names = zip(*imagenet_classes(), strict=True)
    assert len(ids) == len(set(ids)) == 1000 and list(ids) == sorted(ids)
    assert all(len(i) == 9 and i[0] == "n" and i[1:].isdigit() for i in ids)
    known = {0: "tench", 7: "cock", 281: "tabby", 388: "giant panda", 895: "warplane", 980: "volcano"}
    assert {i: names[i] for i in known} == known
    assert imagenet_classes()[0][0] == "n01440764" and imagenet_classes()[999] == ("n15075141", "toilet tissue")
    assert sorted({name for name in names if names.count(name) > 1}) == ["crane", "maillot"]


@pytest.mark.parametrize(
    ("classes", "numbers"),
    [
        (["n01440764", "n15075141"], [0, 999]),
        (["toilet_tissue", "toilet tissue"], None),
        (["tabby", "n02123045"], None),
        (["Toilet_Tissue", "TENCH"], [999, 0]),
        (["Cardigan", "cardigan"], [264, 474]),
        (["CARDIGAN", "tench"], None),
        (["crane", "tench"], None),
        (["n02012849", "n03126707"], [134, 517]),
        (["n99999999", "tench"], None),
        (["0", "1"], None),
    ],
)
def test_imagenet_outputs_are_used_for_all_classes_or_none(classes, numbers):
    assert imagenet_numbers(classes) == numbers


def test_ambiguous_names_are_reported_only_if_they_are_the_only_obstacle():
    assert ambiguous_names(["crane", "maillot"]) == {
        "crane": ["n02012849", "n03126707"],
        "maillot": ["n03710637", "n03710721"],
    }
    assert ambiguous_names(["crane", "excavator of mine"]) == ambiguous_names(["tench", "jay"]) == {}


def test_imagenets_order_is_known_by_ids_and_by_names():
    ids, names = (list(column) for column in zip(*imagenet_classes(), strict=True))
    assert in_imagenets_order(ids) and in_imagenets_order(names)
    assert not in_imagenets_order(ids[::-1]) and not in_imagenets_order(ids[:999])


@pytest.fixture
def make(tiny_teacher, tmp_path):
    """make(folders, ...) runs the stage on noise of these classes; returns its folder and results."""

    def run(folders=FOLDERS, **fields):
        split = make_images(tmp_path / "images", folders)
        (tmp_path / "made").mkdir()
        teacher = teacher_config(**fields)
        images = TeacherImages(tmp_path / "images", split, "stretch")
        return tmp_path / "made", kind_of(teacher.name).build(tmp_path / "made", teacher, images)

    return run


def knower(px=PX):
    """`tiny` with its top; the outputs of the three folders' classes look at blue, green and red."""
    keras.utils.set_random_seed(2)
    model = tiny((px, px, 3), classifier_activation=None)
    kernel, *norm, weights, biases = model.get_weights()
    kernel = np.zeros_like(kernel)
    kernel[1, 1, [0, 1, 2], [0, 1, 2]] = 1
    weights = np.zeros_like(weights)
    for output, channel in zip(OUTPUTS, (2, 1, 0), strict=True):
        weights[channel, output] = 30
    biases[:] = np.linspace(0, 1, 1000)
    model.set_weights([kernel, *norm, weights, biases])
    return model


@pytest.mark.parametrize("px", [PX, 12])
def test_a_network_with_its_top_keeps_the_outputs_of_the_users_classes(make, tmp_path, capsys, px):
    whole = knower()
    whole.save_weights(tmp_path / "top.weights.h5")
    folder, results = make(weights=str(tmp_path / "top.weights.h5"), input_px=px)
    assert results.way == "imagenet" and results.imagenet_ids == ["n01580077", "n02123045", "n02123159"]
    assert results.val.top1 == 1.0 and results.head is None and results.classes == FOLDERS
    output = capsys.readouterr().err
    assert "tiny: the 3 classes are ImageNet's; the teacher keeps its own head" in output
    noise = np.random.default_rng(0).integers(0, 256, (8, px, px, 3)).astype(np.uint8)
    same = knower(px).predict_on_batch(noise.astype(np.float32) / 127.5 - 1)
    logits = open_teacher(folder, 8)[0].outputs(noise)
    np.testing.assert_allclose(logits, same[:, OUTPUTS], atol=1e-5)


def test_a_file_with_a_thousand_outputs_keeps_them_too(make, tmp_path):
    knower().save(tmp_path / "mine.keras")
    fields = {"name": str(tmp_path / "mine.keras"), "preprocess": "tf"}
    folder, results = make(**fields)
    assert results.way == "imagenet" and results.val.top1 == 1.0
    assert open_teacher(folder, 8)[0].model.output_shape == (None, 3)


def test_a_file_whose_thousand_outputs_are_others_gets_a_new_head(make, tmp_path):
    knower().save(tmp_path / "mine.keras")
    ids = [wordnet_id for wordnet_id, _ in imagenet_classes()]
    (tmp_path / "names.txt").write_text("\n".join(ids[::-1]) + "\n")
    fields = {"name": str(tmp_path / "mine.keras"), "preprocess": "tf", "classes": str(tmp_path / "names.txt")}
    assert make(**fields)[1].way == "head"


def test_weights_without_a_top_get_a_new_head_and_it_is_reported(make, body_weights, capsys):
    assert make(weights=str(body_weights))[1].way == "head"
    assert "tiny: the classes are ImageNet's, but these weights have no head for 16 px" in capsys.readouterr().err


def test_other_classes_and_ambiguous_names_get_a_new_head(make, tmp_path, capsys):
    knower().save_weights(tmp_path / "top.weights.h5")
    assert make(["crane", "jay", "tabby"], weights=str(tmp_path / "top.weights.h5"))[1].way == "head"
    assert "tiny: 'crane' is ImageNet's n02012849 and n03126707; rename the folder to its id" in capsys.readouterr().err


def test_imagenet_names_of_other_classes_are_refused(make, tmp_path):
    knower().save_weights(tmp_path / "top.weights.h5")
    with pytest.raises(TeacherError, match="The folders have the names of ImageNet classes. If they are other"):
        make(["beaver", "mouse", "stole"], weights=str(tmp_path / "top.weights.h5"))


def test_from_scratch_no_imagenet_head_is_used(make):
    assert make(weights="none", epochs=1)[1].way == "nothing"


def test_a_top_for_one_input_size_is_not_used_for_another(monkeypatch, tmp_path, tiny_teacher):
    def flat(input_shape, weights=None, include_top=True, pooling=None, classifier_activation="softmax"):
        pixels = keras.Input(input_shape)
        x = keras.layers.Flatten()(keras.layers.Conv2D(2, 3)(pixels))
        return keras.Model(pixels, keras.layers.Dense(1000, activation=classifier_activation)(x))

    monkeypatch.setattr(keras.applications, "Tiny", flat)
    flat((PX, PX, 3)).save_weights(tmp_path / "flat.weights.h5")
    assert build_whole(TINY, PX, str(tmp_path / "flat.weights.h5")).output_shape == (None, 1000)
    assert build_whole(TINY, 12, str(tmp_path / "flat.weights.h5")) is None


@pytest.mark.filterwarnings("ignore:Skipping nested container")  # the files are of an older Keras
@pytest.mark.skipif(not WEIGHTS.is_dir(), reason="no ../shared/weights beside this checkout")
def test_the_real_head_is_used_with_a_file_that_has_it():
    entry = TEACHERS["mobilenetv2"]
    assert build_whole(entry, 96, str(WEIGHTS / "mobilenet_v2_1.0_224_notop.weights.h5")) is None
    whole = build_whole(entry, 96, str(WEIGHTS / "mobilenet_v2_1.0_224.weights.h5"))
    kernel, biases = whole.layers[-1].get_weights()
    assert whole.output_shape == (None, 1000) and whole.input_shape == (None, 96, 96, 3)
    assert kernel.shape == (1280, 1000) and np.isfinite(biases).all() and biases.std() > 0


def test_the_written_description_can_be_read(make, tmp_path):
    knower().save_weights(tmp_path / "top.weights.h5")
    folder, results = make(weights=str(tmp_path / "top.weights.h5"))
    assert json.loads((folder / "teacher.json").read_text("utf-8")) == msgspec.to_builtins(results)
