import base64
import io

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from kd2mobile.pages.shown_images import card, choose_images


def one_hot(classes, width=3):
    return np.eye(width)[classes]


@settings(max_examples=60)
@given(st.integers(0, 60), st.integers(0, 20), st.integers(0, 1000))
def test_chosen_are_unique_and_as_many_as_asked(n, count, seed):
    rng = np.random.default_rng(seed)
    labels, teacher, student = rng.integers(0, 3, n), rng.random((n, 3)), rng.random((n, 3))
    chosen = choose_images(labels, teacher, student, count, seed)
    assert len(chosen) == len(set(chosen)) == min(n, count)
    assert all(isinstance(i, int) and 0 <= i < n for i in chosen)
    assert chosen == choose_images(labels, teacher, student, count, seed)


def test_a_third_each_where_there_are_enough():
    labels = np.zeros(90, int)
    student = np.repeat([0, 1, 1], 30)
    teacher = np.repeat([0, 1, 0], 30)
    chosen = choose_images(labels, one_hot(teacher), one_hot(student), 12, seed=3)
    right, errs, disagree = chosen[:4], chosen[4:8], chosen[8:]
    assert all(student[i] == 0 for i in right)
    assert all(student[i] != 0 for i in errs)
    assert all(student[i] != teacher[i] for i in disagree)


def test_rare_errors_are_all_shown_and_the_rest_filled_up():
    labels = np.zeros(50, int)
    student = np.where(np.arange(50) == 17, 2, 0)
    chosen = choose_images(labels, one_hot(labels), one_hot(student), 12)
    assert 17 in chosen and len(chosen) == 12


def test_another_seed_shows_other_images():
    labels = np.zeros(300, int)
    first, second = (choose_images(labels, one_hot(labels), one_hot(labels), seed=seed) for seed in (0, 1))
    assert first != second


def test_a_card_always_has_the_true_class(make_image):
    names = [f"c{i}" for i in range(9)]
    falling = [(name, 0.5**i) for i, name in enumerate(names)]
    shown = card(make_image(0, true_class="c8", teacher=falling, student=falling[:3]))
    assert [guess.name for guess in shown.guesses] == ["c0", "c1", "c2", "c8"]
    last = shown.guesses[-1]
    assert last.true and last.teacher == 0.5**8 and last.student is None
    assert shown.verdict == "both err"


@pytest.mark.parametrize(
    ("teacher", "student", "verdict"),
    [
        ("a", "a", "both right"),
        ("a", "b", "only the teacher is right"),
        ("b", "a", "only the student is right"),
        ("b", "b", "both err"),
    ],
)
def test_the_verdict(make_image, teacher, student, verdict):
    shown = card(make_image(0, true_class="a", teacher=[(teacher, 0.9)], student=[(student, 0.8)]))
    assert shown.verdict == verdict


def test_thumbnails_are_small_and_tiny_images_stay_exact(make_image, tmp_path):
    large = card(make_image(1, image=Image.new("RGB", (1000, 500), "red")))
    stored = base64.b64decode(large.thumbnail.data_uri.partition(",")[2])
    assert Image.open(io.BytesIO(stored)).size == (208, 104) and not large.thumbnail.small
    pixels = np.random.default_rng(0).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "tiny.png")
    tiny = card(make_image(1, image=tmp_path / "tiny.png"))
    shown = Image.open(io.BytesIO(base64.b64decode(tiny.thumbnail.data_uri.partition(",")[2])))
    assert tiny.thumbnail.small and (np.asarray(shown) == pixels).all()


def test_an_image_that_is_gone_says_so(make_image, tmp_path):
    shown = card(make_image(1, image=tmp_path / "gone.jpg"))
    assert shown.thumbnail.data_uri is None and "gone.jpg" in shown.thumbnail.fault
