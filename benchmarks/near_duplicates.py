"""What `kd2mobile check` takes for near duplicates, on known data and on copies changed by hand.

    python benchmarks/near_duplicates.py --caltech101 FOLDER --mnist FOLDER [--images 300]

FOLDER: the class folders, and the folder of MNIST's idx files, of which the training images are compared. The
changed copies are of --images photos of caltech101, the first by the SHA-256 of their files; each copy is compared
with its own original. What the search costs is timed on caltech101, --rounds times in turn. Splits and thumbnails are
kept in .kd2mobile/. Writes one record to benchmarks/results/. About five minutes on two cores. Linux and macOS.
"""

import argparse
import gzip
import io
import resource
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from statistics import median

import numpy as np
from PIL import Image, ImageEnhance, ImageOps
from records import write_record

from kd2mobile.data.in_threads import in_threads
from kd2mobile.data.sources.scan import scan
from kd2mobile.data.split import NearGroup, Sample, Split, read_groups, read_split
from kd2mobile.data.splits import near_duplicates as near
from kd2mobile.data.splits.draw import draw_splits
from kd2mobile.data.splits.groups import Chains, near_groups
from kd2mobile.data.thumbnails import THUMBNAIL_PX, WHOLE, Thumbnails, make_thumbnails, read_thumbnails
from kd2mobile.measure.host.machine import device_words
from kd2mobile.pixels import examine, open_image, render
from kd2mobile.recipe.compose import compose
from kd2mobile.recipe.schema import Data
from kd2mobile.stages.plan import plan_splits
from kd2mobile.store.artifact import Store
from kd2mobile.store.run import STORE

MNIST_IMAGES = "train-images-idx3-ubyte", "train-labels-idx1-ubyte"


def saved(quality: int) -> Callable[[Image.Image], Image.Image]:
    def change(image: Image.Image) -> Image.Image:
        file = io.BytesIO()
        image.save(file, "JPEG", quality=quality)
        return Image.open(file).convert("RGB")

    return change


def half(image: Image.Image) -> Image.Image:
    return image.resize((max(1, image.width // 2), max(1, image.height // 2)), Image.Resampling.LANCZOS)


def brighter(factor: float) -> Callable[[Image.Image], Image.Image]:
    return lambda image: ImageEnhance.Brightness(image).enhance(factor)


def cut(part: float) -> Callable[[Image.Image], Image.Image]:
    def change(image: Image.Image) -> Image.Image:
        x, y = max(1, round(part * image.width)), max(1, round(part * image.height))
        return image.crop((x, y, image.width - x, image.height - y))

    return change


CHANGES: dict[str, Callable[[Image.Image], Image.Image]] = {
    "JPEG, quality 30": saved(30),
    "JPEG, quality 10": saved(10),
    "half the size": half,
    "half the size, then JPEG, quality 30": lambda image: saved(30)(half(image)),
    "5 % brighter": brighter(1.05),
    "20 % brighter": brighter(1.2),
    "1.5 % cut off on each side": cut(0.015),
    "5 % cut off on each side": cut(0.05),
    "in grey": lambda image: ImageOps.grayscale(image).convert("RGB"),
    "mirrored": ImageOps.mirror,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--caltech101", type=Path, required=True)
    parser.add_argument("--mnist", type=Path, required=True)
    parser.add_argument("--images", type=int, default=300)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    data = [{"data": "MNIST, training images", **of_mnist(options.mnist)}]
    data.append({"data": "digits", **of_data("digits")[0]})
    caltech101, split = of_data(str(options.caltech101))
    data.append({"data": "caltech101", **caltech101})
    write_record(
        "near_duplicates",
        f"python benchmarks/near_duplicates.py --caltech101 $CALTECH101 --mnist $MNIST --images {options.images}",
        device=device_words(),
        most_bits=near.MOST_BITS,
        most_difference=near.MOST_DIFFERENCE,
        least_correlation=near.LEAST_CORRELATION,
        data=data[::-1],
        costs=costs(options.caltech101, options.rounds),
        changed_copies={
            "of": options.images,
            "found": changed_copies(options.caltech101, split, options.images),
        },
    )


def costs(folder: Path, rounds: int) -> dict[str, dict[str, float]]:
    """Seconds on the clock and of the processor, medians of rounds in turn: to read and hash each file, to decode it,
    to decode it and make its thumbnail, to search the thumbnails, and to draw."""
    scanned = scan(folder)
    first = list({image.sha256: image for image in scanned.images}.values())
    thumbnails, near_ones = make_thumbnails(folder, scanned.images), Chains()
    for pair in near.near_pairs(thumbnails):
        near_ones.join(*pair)
    steps = {
        "scan": lambda: scan(folder),
        "decode": lambda: list(in_threads(lambda image: examine(folder / image.path), first)),
        "decode_with_thumbnails": lambda: make_thumbnails(folder, scanned.images),
        "search": lambda: list(near.near_pairs(thumbnails)),
        "draw": lambda: draw_splits(scanned.images, scanned.classes, ["val", "test"], Data(), None, near_ones),
    }
    took: dict[str, list[tuple[float, float]]] = {name: [] for name in steps}
    for _ in range(rounds):
        for name, step in steps.items():
            begun = time.perf_counter(), time.process_time()
            step()
            took[name].append((time.perf_counter() - begun[0], time.process_time() - begun[1]))
    return {
        name: {"s": round(median(s for s, _ in times), 2), "processor_s": round(median(p for _, p in times), 2)}
        for name, times in took.items()
    }


def of_mnist(folder: Path) -> dict:
    """The training images as `check` sees them: grey as RGB, stretched to a thumbnail. With what the search takes."""
    images, labels = (_idx(folder, name) for name in MNIST_IMAGES)
    images = images.reshape(len(labels), 28, 28)
    drawn = in_threads(lambda p: render(Image.fromarray(p).convert("RGB"), WHOLE, THUMBNAIL_PX), images)
    thumbnails = np.stack(list(drawn))
    samples = [Sample(f"{i:05d}", int(label), "train", str(i), 28, 28) for i, label in enumerate(labels)]
    split = Split([str(digit) for digit in range(10)], samples)
    begun, held = time.process_time(), _most_mb()
    near_ones = Chains()
    for pair in near.near_pairs(Thumbnails({}, [sample.sha256 for sample in samples], thumbnails)):
        near_ones.join(*pair)
    took = {"search_processor_s": round(time.process_time() - begun, 1), "search_mb": round(_most_mb() - held)}
    return _summary(split, near_groups(near_ones, split)) | took


def of_data(source: str) -> tuple[dict, Split]:
    """What `kd2mobile check --data SOURCE` finds in the plain draw and in that of whole groups, and the plain split."""
    store, drawn = Store(STORE), {}
    for groups in (True, False):
        _, step = plan_splits(compose(settings={"data.source": source, "data.groups": groups}), store)[0]
        folder = store.make(step).folder
        drawn[groups] = read_split(folder), read_groups(folder)
    split, plain = drawn[False]
    thumbnails = read_thumbnails(store.make(step.inputs["thumbnails"]).folder).pixels
    across = sum(len(group.splits) > 1 for group in drawn[True][1].near_duplicates)
    summary = _summary(split, plain.near_duplicates) | {"of_them_drawn_whole": across} | _close(thumbnails)
    leaks = {"test_images": len(split.samples_of("test")), "leaked": len(plain.leaked)}
    return summary | leaks | {"leaked_drawn_whole": len(drawn[True][1].leaked)}, split


def changed_copies(folder: Path, split: Split, count: int) -> dict[str, int]:
    """By change, how many of the copies are found beside their originals."""
    distinct = {sample.sha256: sample for sample in reversed(split.samples)}
    chosen = [distinct[content] for content in sorted(distinct)[:count]]

    def variants(sample: Sample) -> list[np.ndarray]:
        image = open_image(folder / sample.path)
        return [render(p, WHOLE, THUMBNAIL_PX) for p in (image, *(f(image) for f in CHANGES.values()))]

    thumbnails = np.stack(list(in_threads(variants, chosen)))
    originals, counts = thumbnails[:, 0], {}
    for index, name in enumerate(CHANGES, start=1):
        both = np.concatenate([originals, thumbnails[:, index]])
        hashes = near.perceptual_hashes(both)
        pairs = np.stack([np.arange(count), np.arange(count) + count], axis=1)
        bits = np.array([int(a ^ b).bit_count() for a, b in hashes[pairs].tolist()])
        counts[name] = int(((bits <= near.MOST_BITS) & np.isfinite(near.confirmed(both, pairs))).sum())
    return counts


def _close(thumbnails: np.ndarray) -> dict:
    """The pairs that the hash alone finds, and how little the closest of them differ."""
    pairs = np.concatenate(list(near.close_pairs(near.perceptual_hashes(thumbnails))))
    one, other = thumbnails[pairs.T].astype(np.float32)
    differences = np.sqrt(np.square(one - other).mean((1, 2, 3)))
    return {"pairs_within_most_bits": len(pairs), "least_difference_of_them": round(float(differences.min()), 2)}


def _summary(split: Split, groups: list[NearGroup]) -> dict:
    return {
        "images": len(split.samples),
        "groups": len(groups),
        "images_in_groups": sum(len(group.paths) for group in groups),
        "groups_in_several_splits": sum(len(group.splits) > 1 for group in groups),
        "groups_in_several_classes": sum(len(group.classes) > 1 for group in groups),
        "classes_of_groups": dict(Counter(" and ".join(group.classes) for group in groups).most_common(5)),
    }


def _idx(folder: Path, name: str) -> np.ndarray:
    """The bytes of an idx file after its header, packed or not."""
    file = next(path for path in (folder / name, folder / f"{name}.gz") if path.exists())
    stored = gzip.decompress(file.read_bytes()) if file.suffix == ".gz" else file.read_bytes()
    return np.frombuffer(stored, np.uint8, offset=4 + 4 * stored[3])


def _most_mb() -> float:
    """The most memory that this process has held so far."""
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most / (1e6 if sys.platform == "darwin" else 1e3)


if __name__ == "__main__":
    main()
