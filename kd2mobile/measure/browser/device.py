"""A browser: `--device browser` serves a page, and the browser that opens it measures."""

from pathlib import Path
from typing import Annotated

from kd2mobile.measure.device import Device, NoOptions, Program, says

PURPOSE = "benchmark --device browser, or adb without --benchmark-binary"


class Options(NoOptions):
    """How the page is served. lan: also to other machines. port: 0 for any free one. tls: PEM files of a certificate
    and its key, for https. open: whether to open it in this host's own browser."""

    lan: Annotated[bool, says("Serve the page to the local network too, for example to a phone.")] = False
    port: Annotated[int, says("Port of the page. [any free port]", ge=0, le=65535)] = 0
    tls: Annotated[tuple[Path, Path] | None, says("Serve over https with these two PEM files. [http]", "CERT KEY")] = (
        None
    )
    open: Annotated[bool, says("Print the URL without opening it here.")] = True


DEVICE = Device(
    name="browser",
    form="browser",
    options=Options,
    programs=(Program("node", PURPOSE, "Install Node.js 20 or later, for example `sudo apt-get install nodejs`."),),
)
