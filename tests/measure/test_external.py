import os

import numpy as np
import pytest
from PIL import Image

from kd2mobile.errors import DataError, ModelFileError
from kd2mobile.inspection.labels import label_lines
from kd2mobile.measure import external
from kd2mobile.measure.external import class_folders, match_folders, measure_on_folder
from kd2mobile.measure.host import measure as host
from kd2mobile.measure.litert.runtime import Classifier
from kd2mobile.measure.litert.worker import Profile, profile_file, profile_files
from kd2mobile.measure.predict import predict
from kd2mobile.measure.protocol import Protocol, Span
from tests.tiny_models import CLASSES, COLOURS

from .conftest import image

UNTIMED = Span(0, 0, None)


def measure_external(*which, **how):
    """The first record of `measure_on_folder`."""
    return measure_on_folder(*which, **how).record


class Here(Classifier):
    """The file in this process."""

    def __enter__(self):
        return self

    def __exit__(self, *fault):
        """Nothing to end."""


@pytest.fixture(autouse=True)
def no_process(monkeypatch):
    """Spares two processes a test: test_guarded.py and test_latency.py try them."""
    monkeypatch.setattr(external, "guarded", lambda path, protocol, **how: Here(path, **how))
    stand_in = Profile(runtime="stand-in")
    monkeypatch.setattr(host, "profile_files", lambda files, *_, **__: [stand_in] * len(files))


def test_by_name_when_every_folder_has_a_label():
    matching = match_folders(["b", "c"], 4, ["a", "b", "c", "d"], "data")
    assert matching.outputs == [1, 2] and matching.order == "labels"


def test_names_may_differ_in_case_spaces_and_encoding():
    labels = ["great white shark", "Caf\u00e9", "tench"]
    assert match_folders(["Great_White-Shark", "cafe\u0301"], 3, labels, "data").outputs == [0, 1]


def test_the_same_text_comes_before_a_similar_one():
    assert match_folders(["Cat", "cat"], 3, ["CAT", "cat", "Cat"], "data").outputs == [2, 1]


def test_an_ambiguous_name_is_no_match():
    with pytest.raises(DataError, match="got 3 labels for 'crane'"):
        match_folders(["crane"], 9, ["crane", "Crane", "crane"], "data")
    with pytest.raises(DataError, match="got 1 label for 'cat', 'cAt'"):
        match_folders(["cat", "cAt"], 9, ["CAT", "dog", "x"], "data")


@pytest.mark.parametrize("outputs", [3, 4, 1001])
def test_a_folder_without_a_label_is_refused_with_its_name_and_the_first_labels(outputs):
    labels = ["goldfish", "tench", "shark", *(f"class {number}" for number in range(outputs - 3))]
    with pytest.raises(DataError) as refused:
        match_folders(["goldfish", "n02", "n03"], outputs, labels, "data")
    more = f" and {outputs - 3} more" if outputs > 3 else ""
    assert str(refused.value) == (
        f"data: must have one label for each class folder, of the labels 'goldfish', 'tench', 'shark'{more}, "
        "got none for the folder 'n02'. Give the folders the names of the labels. "
        "Give the names of the outputs with --labels, one per line."
    )


def test_labels_without_a_folder_do_not_matter():
    labels = [f"class {number}" for number in range(1001)]
    assert match_folders(["class 1000", "class 7"], 1001, labels, "data").outputs == [1000, 7]


def test_sorted_order_without_any_labels_when_the_counts_agree():
    matching = match_folders(["n01", "n02", "n03"], 3, None, "data")
    assert matching.outputs == [0, 1, 2] and matching.order == "sorted folders"
    assert "the outputs have no names, so its 3 folders are matched to the outputs in sorted order" in matching.note


def test_one_output_more_is_a_background_at_0():
    matching = match_folders(["a", "b"], 3, None, "data")
    assert matching.outputs == [1, 2] and matching.order == "sorted folders after a background"
    assert "the outputs have no names" in matching.note and "output 0, which is taken as" in matching.note


@pytest.mark.parametrize(("outputs", "shown"), [(1, "1 output"), (2, "2 outputs"), (1000, "1,000 outputs")])
def test_other_counts_are_refused(outputs, shown):
    with pytest.raises(DataError) as refused:
        match_folders(["a", "b", "c"], outputs, None, "data")
    assert f"got 3 folders for {shown}, and no label in the file" in str(refused.value)
    assert str(refused.value).endswith("Give the names of the outputs with --labels, one per line.")


def test_splits_for_classes_get_a_hint():
    with pytest.raises(DataError, match="These look like splits: give one of them"):
        match_folders(["test", "train", "x"], 10, None, "data")


@pytest.mark.parametrize("outputs", [2, 3, 10])
@pytest.mark.parametrize("labels", [None, ["boat", "train"]])
def test_splits_are_never_taken_for_classes(outputs, labels):
    with pytest.raises(DataError) as refused:
        match_folders(["Train", "test"], outputs, labels, "data")
    assert str(refused.value) == (
        "data: must be a folder of class folders, got 'Train', 'test'. "
        "These look like splits: give one of them, such as the test folder."
    )


def test_classes_may_be_named_like_splits_if_labels_are():
    assert match_folders(["train"], 2, ["boat", "train"], "data").outputs == [1]


@pytest.mark.parametrize("folders", [["blue", "green", "rot"], ["blue", "green", "red", "rot"], ["blue", "rot"]])
def test_a_file_of_kd2mobiles_goes_by_name_alone(own, tmp_path, folders):
    for name in folders:
        image(tmp_path / "data" / name / "a.png", COLOURS["red"])
    with pytest.raises(DataError, match="got none for the folder 'rot'"):
        measure_external(own("uint8"), tmp_path / "data")


@pytest.mark.parametrize("own_file", [True, False])
def test_a_label_file_one_line_short_is_no_background(own, models, photos, tmp_path, own_file):
    labels = tmp_path / "labels.txt"
    labels.write_text("green\nred\n")
    with pytest.raises(
        ModelFileError, match="must have one name per output, one per line, got 2 labels for 3 outputs"
    ) as refused:
        measure_external(own("uint8") if own_file else models / "uint8.tflite", photos, labels=labels)
    assert ("write the line `background` before the others" in str(refused.value)) != own_file


def test_labels_inside_the_file_of_another_number_are_refused(packed, photos):
    with pytest.raises(ModelFileError, match="must have one label per output, .* got 2 labels for 3 outputs"):
        measure_external(packed("uint8", {"labels.txt": "green\nred\n"}), photos)


def test_several_texts_inside_the_file_are_no_reason_for_sorted_order(packed, photos):
    path = packed("uint8", {"classes.txt": "red\ngreen\nblue\n", "notes.txt": "x\n"})
    with pytest.raises(ModelFileError) as refused:
        measure_external(path, photos)
    assert str(refused.value) == (
        f"{path}: must have one label per output, because class folders are matched to outputs by name, "
        "got 2 text files inside ('classes.txt', 'notes.txt'), none of which is declared as labels. "
        "Give the names of the outputs with --labels, one per line."
    )


def test_folders_may_be_named_like_the_lines_of_a_numbered_label_file():
    for lines in (["0 red", "1 green", "2 blue"], ["0: red", "1: green", "2: blue"], ["2,blue", "0,red", "1,green"]):
        labels = label_lines("\n".join(lines).encode(), "labels.txt")
        folders = sorted(lines)
        assert match_folders(folders, 3, labels, "data")[:2] == ([0, 1, 2], "labels")
        assert match_folders(folders[1:], 3, labels, "data")[:2] == ([1, 2], "labels")
    assert match_folders(["0 x", "1 0 x"], 2, ["x", "0 x"], "data").outputs == [0, 1]
    for folders in (["0 green", "1 red", "2 blue"], ["0 red", "green"], ["0 red", "0: red"], ["7 red"]):
        with pytest.raises(DataError, match="must have one label for each class folder"):
            match_folders(folders, 3, ["red", "green", "blue"], "data")


def test_names_decide_over_order(models, photos, tmp_path, capsys):
    labels = tmp_path / "labels.txt"
    labels.write_text("red\ngreen\nblue\n")
    right = measure_on_folder(models / "uint8.tflite", photos)
    assert right.record.top1 == 6 / 7 and "sorted order" in capsys.readouterr().err
    assert right.record.class_order == "sorted folders" and "class_order" not in right.record.unknown
    swapped = measure_on_folder(models / "uint8.tflite", photos, labels=labels)
    assert swapped.record.top1 == 2 / 7  # the two green ones
    assert swapped.notes == ["3 folders matched to outputs by name"] and capsys.readouterr().err == ""
    assert swapped.record.class_order == "labels" and "class_order" not in swapped.record.unknown


@pytest.mark.parametrize(
    "text", ["2 red\n0 blue\n1 green\n", "0: blue\n1: green\n2: red\n", "red\t2\nblue\t0\ngreen\t1"]
)
def test_numbered_labels_of_the_user_and_of_the_file(models, packed, photos, tmp_path, text):
    labels = tmp_path / "labels.txt"
    labels.write_text(text)
    for measured in (
        measure_on_folder(models / "uint8.tflite", photos, labels=labels),
        measure_on_folder(packed("uint8", {"labels.txt": text}), photos),
    ):
        assert (measured.record.top1, measured.record.class_order) == (6 / 7, "labels")


def test_labels_inside_the_file_are_used(packed, photos):
    path = packed("uint8", {"labels.txt": "blue\ngreen\nred\n"})
    measured = measure_on_folder(path, photos)
    assert measured.record.top1 == 6 / 7 and "by name" in measured.notes[0]


def test_a_background_class_is_shifted_over(models, photos, tmp_path):
    measured = measure_on_folder(models / "background.tflite", photos)
    # at half brightness every colour's logit is below the background's 0: the three plain images remain
    assert measured.record.top1 == 3 / 7 and "taken as the background" in measured.notes[0]
    labels = tmp_path / "labels.txt"
    assert measured.record.class_order == "sorted folders after a background"
    labels.write_text("background\nblue\ngreen\nred\n")
    measured = measure_on_folder(models / "background.tflite", photos, labels=labels)
    assert measured.record.top1 == 3 / 7 and "by name" in measured.notes[0]


def test_folders_of_some_classes_are_enough_by_name(own, photos):
    for path in (photos / "blue").iterdir():
        path.unlink()
    (photos / "blue").rmdir()
    record = measure_external(own("uint8"), photos)
    assert (record.role, record.n, record.top1, record.model) == ("external", 5, 0.8, "mobilenet025")


def test_labels_of_another_model_are_refused(models, photos, tmp_path):
    labels = tmp_path / "labels.txt"
    labels.write_text("a\nb\n" * 5)
    with pytest.raises(
        ModelFileError, match="must have one name per output, one per line, got 10 labels for 3 outputs"
    ):
        measure_external(models / "uint8.tflite", photos, labels=labels)


def test_every_image_counts_links_and_depth_included(models, tmp_path):
    elsewhere = image(tmp_path / "elsewhere" / "deep" / "a.png", COLOURS["blue"]).parent.parent
    data = tmp_path / "data"
    data.mkdir()
    (data / "blue").symlink_to(elsewhere)
    image(data / "green" / "one.png", COLOURS["green"])
    image(data / "red" / "one.png", COLOURS["red"])
    (data / "red" / "linked.png").symlink_to(tmp_path / "elsewhere" / "deep" / "a.png")
    (data / "red" / "loop").symlink_to(data / "red")
    (data / "red" / ".DS_Store").write_bytes(b"x")
    (data / "README").write_text("not a class")
    (data / ".hidden").mkdir()
    (data / "red" / "@eaDir" / "one.png").mkdir(parents=True)
    image(data / "red" / "@eaDir" / "one.png" / "THUMB.png", COLOURS["red"])
    image(data / "__MACOSX" / "red" / "._one.png", COLOURS["red"])
    folders, skipped = class_folders(data)
    assert skipped == 3, ".DS_Store, a thumbnail of a Synology and what macOS packs beside the images"
    assert {name: [path.name for path in paths] for name, paths in folders.items()} == {
        "blue": ["a.png"],
        "green": ["one.png"],
        "red": ["linked.png", "one.png"],
    }
    assert measure_external(models / "uint8.tflite", data).n == 4


def test_unreadable_images_are_skipped_and_counted(models, photos, capsys):
    (photos / "red" / "empty.jpg").touch()
    (photos / "blue" / "text.png").write_text("no image")
    (photos / "green" / "gone.png").symlink_to(photos / "nowhere.png")
    measured = measure_on_folder(models / "uint8.tflite", photos)
    assert measured.record.n == 7 and len(measured.skipped) == 3
    assert "3 files skipped, not readable; the first is" in capsys.readouterr().err


def test_nothing_but_unreadable_images(models, tmp_path):
    for name in CLASSES:
        (tmp_path / name).mkdir()
        (tmp_path / name / "a.png").write_text("no image")
    with pytest.raises(DataError, match="at least one readable image, got 3 unreadable, the first"):
        measure_external(models / "uint8.tflite", tmp_path)


def test_folders_that_hold_no_classes(models, tmp_path):
    with pytest.raises(DataError, match="must be a folder of class folders, got No such file or directory"):
        measure_external(models / "uint8.tflite", tmp_path / "none")
    with pytest.raises(DataError, match="must be a folder of class folders, got an empty folder"):
        measure_external(models / "uint8.tflite", tmp_path)
    image(tmp_path / "a.png", (0, 0, 0))
    with pytest.raises(DataError, match="must be a folder of class folders, got 1 file and no folder"):
        measure_external(models / "uint8.tflite", tmp_path)
    for name in CLASSES:
        (tmp_path / name).mkdir()
    with pytest.raises(DataError, match="must hold images in its class folders, got none"):
        measure_external(models / "uint8.tflite", tmp_path)


def test_a_folder_that_cannot_be_listed(photos, monkeypatch):
    scandir = os.scandir

    def forbidding(path):
        if str(path).endswith("red"):
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", forbidding)
    with pytest.raises(DataError, match="red: must be a folder that can be listed, got Permission denied"):
        class_folders(photos)


def test_names_with_newlines_and_quotes(own, tmp_path):
    names = ["a\nb", "c 'd' \"e\"", "ü"]
    for name, colour in zip(names, [COLOURS[name] for name in CLASSES], strict=True):
        image(tmp_path / "odd" / name / "x.png", colour)
    assert measure_external(own("uint8", classes=names), tmp_path / "odd").top1 == 1


def test_crop_is_the_default_below_the_file_and_the_user(models, own, photos, monkeypatch):
    resizes = []
    whole_box = host.whole_box
    monkeypatch.setattr(host, "whole_box", lambda *size: resizes.append(size[2]) or whole_box(*size))
    measure_external(models / "uint8.tflite", photos)
    assert set(resizes) == {"crop"}
    resizes.clear()
    measure_external(own("uint8", resize="pad"), photos)
    assert set(resizes) == {"pad"}
    resizes.clear()
    measure_external(own("uint8", resize="pad"), photos, resize="stretch")
    assert set(resizes) == {"stretch"}


def test_a_float_file_of_someone_else_to_the_end(models, photos, monkeypatch):
    monkeypatch.setattr(host, "profile_files", profile_files)
    record = measure_external(models / "float.tflite", photos, mean=127.5, std=127.5, protocol=Protocol(threads=(2,)))
    assert record.top1 == 6 / 7 and record.latency_ms.n >= 100 and record.threads == 2
    assert (record.model, record.precision, record.compression) == ("float", None, None)
    with pytest.raises(ModelFileError, match="must define how a pixel becomes a float"):
        measure_external(models / "float.tflite", photos)


def test_mean_and_std_are_one_value_or_three(models, photos):
    path, image = models / "float.tflite", photos / "red" / "half.png"
    (one,) = predict(path, [image], mean=127.5, std=127.5)
    for mean in ([127.5], [127.5] * 3):
        record = measure_external(path, photos, mean=mean, std=mean)
        assert record.top1 == 6 / 7
        assert predict(path, [image], mean=mean, std=mean) == [one]
        assert profile_file(path, span=UNTIMED, mean=mean, std=mean).first_run_ms > 0
    for mean in ([], [127.5] * 2, [127.5] * 4):
        for refuses in (
            lambda **how: measure_external(path, photos, **how),
            lambda **how: predict(path, [image], **how),
            lambda **how: profile_file(path, span=UNTIMED, **how),
        ):
            with pytest.raises(ModelFileError, match="must be normalized by one finite value or three"):
                refuses(mean=mean, std=127.5)


def test_images_of_more_than_8_bits_are_reported_or_scaled(models, tmp_path, capsys):
    rng = np.random.default_rng(5)
    for name in CLASSES:
        for folder in ("deep", "scaled"):
            (tmp_path / folder / name).mkdir(parents=True)
        values = rng.integers(0, 4096, (8, 8), np.uint16)
        Image.fromarray(values).save(tmp_path / "deep" / name / "1.png")
        scaled = (values * (255 / 4095)).round().astype(np.uint8)
        Image.fromarray(scaled).save(tmp_path / "scaled" / name / "1.png", compress_level=0)
    dark = measure_on_folder(models / "uint8.tflite", tmp_path / "deep")
    assert "3 images of more than 8 bits have values from" in "\n".join(dark.notes)
    assert "`--range 0,4095` scales greyscale ones" in capsys.readouterr().err
    scaled = measure_on_folder(models / "uint8.tflite", tmp_path / "deep", value_range=(0, 4095))
    plain = measure_on_folder(models / "uint8.tflite", tmp_path / "scaled")
    assert scaled.record.images == plain.record.images != dark.record.images
    assert (scaled.record.top1, scaled.record.logloss) == (plain.record.top1, plain.record.logloss)
    assert "more than 8 bits" not in "\n".join(scaled.notes)
