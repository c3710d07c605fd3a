"""A browser: `--device browser`, a page that this host serves and whatever opens it."""

from pathlib import Path
from typing import Annotated

from kd2mobile.measure.device import Device, NoOptions, Program, says

PURPOSE = "benchmark --device browser, or adb without --benchmark-binary"


class Options(NoOptions):
    """How the page is served. lan: to other machines too. port: 0 takes any free one. tls: PEM files of a certificate
    and its key, for https. open: in this host's own browser."""

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
