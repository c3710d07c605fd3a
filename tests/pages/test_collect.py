from kd2mobile.data.split import Sample, Split
from kd2mobile.pages.collect import split_sizes


def test_every_split_is_counted_train_val_and_test_first():
    where = ["unlabelled", "test", "train", "unlabelled", "train"]
    samples = [Sample(f"{i}.jpg", -1, name, str(i), 8, 8) for i, name in enumerate(where)]
    sizes = split_sizes(Split(classes=["a"], samples=samples))
    assert list(sizes.items()) == [("train", 2), ("val", 0), ("test", 1), ("unlabelled", 2)]
