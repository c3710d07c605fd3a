"""`check`: look at the images before anything is trained."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from kd2mobile.api.start import composed
from kd2mobile.files import disk_errors, system_errors
from kd2mobile.stages.plan import plan_splits
from kd2mobile.store.artifact import Store
from kd2mobile.store.output_files import check_output, is_drawing
from kd2mobile.store.run import STORE, check_outside_data, check_outside_results

if TYPE_CHECKING:
    from kd2mobile.data.check import Checked


@system_errors()
def check(
    recipe: Path | None = None,
    *,
    store: Path | None = None,
    sheet: Path | None = None,
    settings: dict[str, Any] | None = None,
    **flags: Any,
) -> "Checked":
    """Looks at the images as `distill` would split them, before anything is trained; needs no framework.

    sheet: a PNG to draw them on, a row per class. The split that is made here is found by `distill`. settings, flags:
    of the [data] table, and student.input_px. Raises DataError for images that cannot be used, as `distill` would.
    """
    from kd2mobile.data.check import SourceImages, check_split
    from kd2mobile.data.sources.roots import several
    from kd2mobile.data.split import read_groups, read_split
    from kd2mobile.pixels import DeepImages

    if sheet:
        check_output(sheet, "sheet", is_drawing)
        check_outside_results(sheet, "sheet")
    resolved, artifacts = composed(recipe, settings, flags), Store(store or STORE)
    check_outside_data(resolved, {"--store": artifacts.root, "sheet": sheet})
    looked = []
    for images, step in plan_splits(resolved, artifacts):
        made = artifacts.make(step)
        split, groups = read_split(made.folder), read_groups(made.folder)
        deep = msgspec.convert(made.results.get("deep_images"), DeepImages | None)
        looked.append(SourceImages(images.root, split, groups, images.scan.ignored, images.scan.system_files, deep))
    data = resolved.data
    beside = {"val": data.val_source or (), "test": data.test_source or ()}
    also = [f"{one} ({part})" for part, named in beside.items() for one in several(named)]
    source = " and ".join([*map(str, several(data.source)), *also])
    checked = check_split(source, resolved.student.input_px, *looked)
    if sheet:
        from kd2mobile.pages.contact_sheet import draw_contact_sheet

        with disk_errors(sheet):
            draw_contact_sheet(Path(sheet), checked, *looked)
    return checked
