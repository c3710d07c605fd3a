"""A Linux board over ssh: `--device ssh:USER@HOST[:PORT]`."""

from pathlib import Path
from typing import Annotated, Literal

from kd2mobile.measure.device import Device, NoOptions, Program, says

Keep = Literal["nothing", "environment", "all"]


class Options(NoOptions):
    """ssh_config: for `ssh -F`, instead of the user's own. keep: what stays on the board afterwards: nothing, the
    Python environment, or all that was copied as well."""

    ssh_config: Annotated[Path | None, says("A configuration file, as for `ssh -F`. [ssh's own]")] = None
    keep: Annotated[Keep, says("What stays on the board afterwards. [environment]")] = "environment"


DEVICE = Device(
    name="ssh",
    form="ssh:USER@HOST[:PORT]",
    options=Options,
    programs=(
        Program(
            "ssh",
            "benchmark --device ssh",
            "Install the OpenSSH client, for example `sudo apt-get install openssh-client`.",
        ),
    ),
)
