"""What the defaults come from: each setting's validation accuracy on caltech101, never its test accuracy.

    python benchmarks/tuning.py --data CALTECH101 --weights WEIGHTS [--epochs 12] [--only TEXT]

MobileNet-0.25 at 128 px, taught by MobileNetV2 at 224 px; places as in caltech101.py. Trained students are kept in
.kd2mobile/, so a stopped suite goes on where it was. Writes one record to benchmarks/results/.
"""

import argparse
from pathlib import Path

from records import write_record

from kd2mobile.backend.keras_backend import load_keras
from kd2mobile.recipe.compose import compose
from kd2mobile.stages.plan import make_plan
from kd2mobile.store.artifact import Store
from kd2mobile.store.run import STORE
from kd2mobile.transfer.results import TransferResults

AREA = {"views.smallest_area": 0.35}
SLOW, FAST = AREA | {"distill.learning_rate": 1e-3}, AREA | {"distill.learning_rate": 3e-3}
LABELS = SLOW | {"distill.baseline": True}


def compressed(rate: float, epochs: int) -> dict:
    return {"compress.learning_rate": rate, "compress.epochs": epochs}


TRIED = [
    ("learning rate 1e-3", 0, SLOW),
    ("learning rate 1e-3, temperature 2", 0, SLOW | {"distill.temperature": 2.0}),
    ("learning rate 1e-3, temperature 8", 0, SLOW | {"distill.temperature": 8.0}),
    ("learning rate 3e-4", 0, AREA | {"distill.learning_rate": 3e-4}),
    ("learning rate 3e-3", 0, FAST),
    ("learning rate 1e-2", 0, AREA | {"distill.learning_rate": 1e-2}),
    ("learning rate 3e-3, hard-label weight 0.1", 0, FAST | {"distill.hard_label_weight": 0.1}),
    ("learning rate 3e-3, batch size 64", 0, FAST | {"distill.batch_size": 64}),
    ("learning rate 3e-3, smallest area 0.15", 0, FAST | {"views.smallest_area": 0.15}),
    ("learning rate 3e-3, smallest area 0.7", 0, FAST | {"views.smallest_area": 0.7}),
    ("learning rate 3e-3, loss kd-split", 0, FAST | {"distill.loss": "kd-split"}),
    ("learning rate 3e-3, loss logits", 0, FAST | {"distill.loss": "logits"}),
    ("learning rate 3e-3, warm-up 0", 0, FAST | {"distill.warmup_epochs": 0}),
    ("learning rate 3e-3, warm-up 3", 0, FAST | {"distill.warmup_epochs": 3}),
    ("learning rate 3e-3, no flip", 0, FAST | {"views.flip": False}),
    ("learning rate 3e-3, seed 1", 1, FAST),
    ("learning rate 3e-3, smallest area 0.7, seed 1", 1, FAST | {"views.smallest_area": 0.7}),
    ("labels alone, stretch", 0, LABELS),
    ("labels alone, crop", 0, LABELS | {"data.resize": "crop"}),
    *(
        (f"{compression}, learning rate {rate}, {epochs} epochs", 0, compressed(rate, epochs), compression)
        for compression in ("qat", "prune", "cluster")
        for rate, epochs in ((1e-4, 4), (3e-4, 4), (1e-3, 4), (3e-4, 8))
    ),
]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--weights", type=Path, required=True)
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--only", default="", metavar="TEXT", help="the settings with this in their names")
    options = parser.parse_args()
    load_keras()
    base = {
        "data.source": str(options.data),
        "teacher.name": "mobilenetv2",
        "teacher.weights": str(options.weights / "mobilenet_v2_1.0_224_notop.weights.h5"),
        "student.weights": str(options.weights / "mobilenet_0.25_224_notop.weights.h5"),
        "distill.epochs": options.epochs,
    }
    tried = [
        {"name": name, "seed": seed, **trained(base | setting, seed, *compression)}
        for name, seed, setting, *compression in TRIED
        if options.only in name
    ]
    only = f' --only "{options.only}"' if options.only else ""
    write_record(
        "tuning",
        f"python benchmarks/tuning.py --data $CALTECH101 --weights $WEIGHTS --epochs {options.epochs}{only}",
        setting=f"mobilenet025 at 128 px, teacher mobilenetv2 at 224 px, {options.epochs} epochs, area 0.35 "
        "unless said, the rest default.",
        tried=tried,
    )


def trained(settings: dict, seed: int, compression: str = "none") -> dict:
    """The training's results: val_top1, val_logloss, best_epoch and more; those of a compression after it."""
    store = Store(STORE)
    plan = make_plan(compose(settings=settings | {"distill.seed": seed}), store)
    step = plan.students["baseline"] if settings.get("distill.baseline") else plan.students["student"]
    results = store.make(step).results
    if step is plan.students["student"]:
        results = results | {
            "teacher_val_top1": store.make(plan.steps["transfer"]).results_as(TransferResults).val.top1
        }
    if compression != "none":
        results = store.make(plan.compressed("student", compression)).results
    return results


if __name__ == "__main__":
    main()
