"""`python -m deploy.acl`: the ACL file of a cell, or with --template the chart's, written to its place.

python -m deploy.acl --cell eu-1 --passwords DIR     # DIR holds a file <user>-password for each user
python -m deploy.acl --template                      # deploy/k8s/files/users.acl
"""

from __future__ import annotations

import argparse
import sys
from hashlib import sha256
from pathlib import Path

from deploy.acl.file import acl_file, template
from deploy.acl.users import USERS
from shared.bus_url import secret_in
from shared.errors import ConfigurationError

TEMPLATE = Path(__file__).parents[1] / "k8s" / "files" / "users.acl"


def hashes_in(folder: Path) -> dict[str, str]:
    """SHA-256 of each password that is there. Raises ConfigurationError for none, and for one that is no line."""
    files = {user: folder / f"{user}-password" for user in USERS}
    given = {user: secret_in(file, file.name) for user, file in files.items() if file.exists()}
    if not given:
        raise ConfigurationError(f"--passwords {folder}: has no file such as {next(iter(files.values())).name}")
    return {user: sha256(password.encode()).hexdigest() for user, password in given.items()}


def main() -> None:
    """One line on stderr and exit code 2 for what is not as it should be."""
    parser = argparse.ArgumentParser(prog="python -m deploy.acl", description="Redis' ACL file")
    parser.add_argument("--cell", default="default", help="hash tag of all keys")
    parser.add_argument("--passwords", type=Path, help="folder with a file <user>-password for each user")
    parser.add_argument("--template", action="store_true", help=f"write {TEMPLATE.name} of the chart anew")
    given = parser.parse_args()
    if given.template:
        TEMPLATE.write_text(template(), encoding="utf-8")
        return
    if given.passwords is None:
        parser.error("--passwords DIR or --template is required")
    try:
        sys.stdout.write(acl_file(given.cell, hashes_in(given.passwords)))
    except ConfigurationError as error:
        parser.exit(2, f"{error}\n")


if __name__ == "__main__":
    main()
