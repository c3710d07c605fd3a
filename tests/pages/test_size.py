"""The page of many classes stays small."""

import pytest
from PIL import Image

from kd2mobile.pages.page import render
from kd2mobile.pages.shown_images import EXAMPLE_PX, thumbnail

MOST_BYTES = 5_000_000


@pytest.fixture(scope="session")
def photo():
    """An image with detail everywhere, as no photo has: the worst case for a thumbnail. The same in each run."""
    blocks = Image.frombytes("RGB", (64, 48), bytes(i * i * 31 % 251 for i in range(64 * 48 * 3)))
    return blocks.resize((640, 480), Image.Resampling.NEAREST)


def test_a_thousand_classes_and_five_thousand_images_stay_below_five_megabytes(
    make_report, make_looks, make_image, photo
):
    classes = [f"n{i:08} a class with a name as long as those of ImageNet" for i in range(1000)]
    found = make_looks(classes, photo, n=5000)
    assert found["confusion"].n == 5000 and len(found["class_scores"]) > 980
    assert all(len(one.examples) == 8 for one in found["disagreements"]) and len(found["confusion"].pairs) == 12
    aside = [(f"{name}/an image.jpg", "must be a readable image, got truncated") for name in classes]
    groups = [[f"{name}/{i}.jpg" for i in range(10)] for name in classes]
    images = [make_image(seed, classes, image=photo) for seed in range(12)]
    page = render(
        make_report(
            classes=classes,
            images=images,
            skipped=aside,
            duplicates=groups,
            leaks=groups,
            contradictions=groups,
            **found,
        )  # fmt: skip
    )
    assert page.count(classes[500]) >= 2, "every class is in the full table"
    assert 200_000 < len(page.encode()) < MOST_BYTES


def test_an_example_is_a_few_kilobytes(photo):
    assert 1_000 < len(thumbnail(photo, EXAMPLE_PX).data_uri) < 16_000
