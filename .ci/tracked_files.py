"""Checks the files of the repository around: none large, none a build product, none naming a machine."""

import re
import subprocess
import sys
from pathlib import Path

LIMIT = 1_000_000  # bytes
# Folders of one person or one machine; addresses of documentation and paths that every system has are fine.
MACHINE_PATHS = re.compile(rb"(?<![\w.~-])/(?:home|root|Users|work|opt|mnt|workspace)/[\w.-]+")
NEVER = (".so", ".o", ".a", ".pyc", ".whl")


def main() -> int:
    listed = subprocess.run(["git", "ls-files", "-z"], check=True, capture_output=True).stdout.decode()
    faults = []
    for name in filter(None, listed.split("\0")):
        path = Path(name)
        if path.is_symlink():
            faults.append(f"{name} is a link")
            continue
        content = path.read_bytes()
        if len(content) > LIMIT:
            faults.append(f"{name} has {len(content)} bytes, the limit is {LIMIT}")
        if path.suffix in NEVER:
            faults.append(f"{name} is a build product")
        if b"\0" in content[:8000]:
            continue
        for number, line in enumerate(content.split(b"\n"), 1):
            if found := MACHINE_PATHS.search(line):
                faults.append(f"{name}:{number} names a place of one machine: {found[0].decode(errors='replace')}")
    print(*faults, sep="\n")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
