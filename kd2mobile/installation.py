"""How this package was installed, and so what installs more of it."""

import json
from importlib import metadata
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import url2pathname

CHECKOUT = Path(__file__).parents[1]


def install_command(extra: str) -> str:
    """The command that installs this package with the extra from where it came: a checkout or a wheel on this
    machine, what else pip was given, or an index. Of a package that is run without being installed, its checkout."""
    try:
        text = metadata.distribution("kd2mobile").read_text("direct_url.json")
    except metadata.PackageNotFoundError:
        text = json.dumps({"url": CHECKOUT.as_uri()})
    return f"python -m pip install {_requirement(json.loads(text) if text else {}, extra)}"


def _requirement(came: dict, extra: str) -> str:
    """What pip is to be given. came: direct_url.json (PEP 610), empty for an index.

    >>> _requirement({"url": "file:///srv/kd2mobile", "dir_info": {"editable": True}}, "train")
    '-e "/srv/kd2mobile[train]"'
    >>> _requirement({"url": "ssh://host/x", "vcs_info": {"vcs": "git", "commit_id": "f00d"}}, "train")
    '"kd2mobile[train] @ git+ssh://host/x@f00d"'
    >>> _requirement({}, "train")
    '"kd2mobile[train]"'
    """
    url = came.get("url", "")
    if url.startswith("file:") and "vcs_info" not in came:
        editable = "-e " if came.get("dir_info", {}).get("editable") else ""
        return f'{editable}"{url2pathname(urlsplit(url).path)}[{extra}]"'
    if "vcs_info" in came:
        url = f"{came['vcs_info']['vcs']}+{url}@{came['vcs_info']['commit_id']}"
    return f'"kd2mobile[{extra}]{f" @ {url}" if url else ""}"'
