"""Prints command NUMBER (from 1) of the first code block of a README: python quick_start.py README NUMBER."""

import re
import sys
from pathlib import Path

COMMANDS = 2

readme = Path(sys.argv[1]).read_text(encoding="utf-8")
block = re.search(r"^```[a-z]*\n(.*?)^```", readme, re.MULTILINE | re.DOTALL)
if block is None:
    sys.exit("the README has no code block")
commands = [line for line in block[1].splitlines() if line.strip()]
if len(commands) != COMMANDS:
    sys.exit(f"the README's first code block has {len(commands)} lines, expected {COMMANDS} commands")
print(commands[int(sys.argv[2]) - 1])
