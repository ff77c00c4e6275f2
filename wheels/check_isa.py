"""Proves that no instruction of a vector set can run on a processor that lacks it.

    python wheels/check_isa.py BUILD_DIR

BUILD_DIR is a CMake build of this package (with pip: `pip wheel . --config-settings=build-dir=BUILD_DIR`).
It needs nm, readelf and objdump. Four statements are checked:

1. The object of each instruction set defines one symbol that others can see, `kernel_table_<set>`: no weak
   symbol and no section group, of which the linker would keep one copy for every set.
2. No other object has an instruction with a VEX or EVEX prefix: AVX and everything that came after it.
3. The AVX2 object has no EVEX instruction, and each vector object has instructions of its own set.
4. The linked module has as many such instructions as the vector objects together, so that link-time
   optimisation added none elsewhere.
"""

import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ISA_FOLDER = re.compile(r"ptts_isa_(\w+)\.dir$")
VECTOR_SETS = ("avx2", "avx512", "avx512_vnni", "avx512_bf16")
# What a kernel may call: the compiler makes these calls by itself.
ALLOWED_CALLS = {"memcpy", "memset", "memmove", "_GLOBAL_OFFSET_TABLE_", "__stack_chk_fail"}
# `   1a:  c5 f8 28 07   vmovaps (%rdi),%xmm0`: the bytes and the text of one instruction.
INSTRUCTION = re.compile(r"^\s*[0-9a-f]+:\s*((?:[0-9a-f]{2} )+)\s*(.*)$")
SEGMENT_AND_ADDRESS_PREFIXES = {"26", "2e", "36", "3e", "64", "65", "67"}
# In 64-bit code these first bytes have no other meaning.
VEX_BYTES, EVEX_BYTE = {"c4", "c5"}, "62"


@dataclass
class Count:
    """Instructions of one file."""

    total: int = 0
    vex: int = 0
    evex: int = 0
    first: str = ""  # the first with either prefix, to show

    @property
    def vector(self) -> int:
        return self.vex + self.evex


def lines_of(*command: str) -> Iterator[str]:
    """What a tool prints, line by line; its failure is ours."""
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        yield from process.stdout
    if process.returncode != 0:
        sys.exit(f"FAIL {command[0]} failed with status {process.returncode} on {command[-1]}")


def count_instructions(file: Path) -> Count:
    """Counts by the first byte behind segment and address-size prefixes, which no mnemonic can hide."""
    count = Count()
    for line in lines_of("objdump", "-d", "-w", str(file)):
        found = INSTRUCTION.match(line)
        if found is None:
            continue
        count.total += 1
        code = [byte for byte in found[1].split() if byte not in SEGMENT_AND_ADDRESS_PREFIXES]
        first = code[0] if code else ""
        if first in VEX_BYTES:
            count.vex += 1
        elif first == EVEX_BYTE:
            count.evex += 1
        else:
            continue
        count.first = count.first or found[2].strip()
    return count


def symbol_faults(isa: str, file: Path) -> list[str]:
    """What else than kernel_table_<isa> the object of a set shows or needs."""
    faults, shown = [], []
    for line in lines_of("nm", str(file)):
        kind, name = line.split()[-2:]
        if kind in "Uw":
            if name not in ALLOWED_CALLS:
                faults.append(f"the {isa} object calls {name}, which other objects define")
        elif kind.isupper() or kind in "uv":
            shown.append((kind, name))
    if shown != [("T", f"kernel_table_{isa}")]:
        listed = ", ".join(f"{name} ({kind})" for kind, name in shown) or "nothing"
        faults.append(f"the {isa} object shows {listed} instead of kernel_table_{isa} alone")
    groups = [line for line in lines_of("readelf", "-gW", str(file)) if "group section" in line]
    if groups:
        faults.append(f"the {isa} object has {len(groups)} section groups: {groups[0].strip()}")
    return faults


def set_faults(isa: str, count: Count) -> list[str]:
    """Whether the object of a set has the instructions of that set and of no later one."""
    if isa == "avx2":
        if count.evex:
            return [f"the avx2 object has {count.evex} AVX-512 instructions, the first: {count.first}"]
        return [] if count.vex else ["the avx2 object has no AVX instruction at all"]
    if isa.startswith("avx512"):
        return [] if count.evex else [f"the {isa} object has no AVX-512 instruction at all"]
    return []


def isa_of(file: Path) -> str:
    """The set whose object this is, or "" for one of the rest."""
    matches = [found[1] for part in file.parts if (found := ISA_FOLDER.search(part))]
    return matches[-1] if matches else ""


def is_x86(file: Path) -> bool:
    return any("x86-64" in line for line in lines_of("objdump", "-f", str(file)))


def check(build: Path) -> tuple[list[str], str]:
    """Faults found in a build folder, and one line of facts."""
    objects = sorted(build.rglob("*.o"))
    isas = {isa_of(file) for file in objects} - {""}
    if not isas:
        sys.exit(f"FAIL {build} has no objects of instruction sets: expected CMakeFiles/ptts_isa_<set>.dir in it")
    modules = sorted(build.glob("_core.*.so"))
    if len(modules) != 1:
        sys.exit(f"FAIL {build} has {len(modules)} files _core.*.so, expected 1: finish the build, or clean it")
    faults: list[str] = []
    for file in objects:
        if isa := isa_of(file):
            faults += symbol_faults(isa, file)
    if not is_x86(modules[0]):
        return faults, f"{', '.join(sorted(isas))}: one symbol each (instructions are checked on x86-64 only)"

    counts = {file: count_instructions(file) for file in objects}
    vector, baseline = 0, 0
    for file, count in counts.items():
        isa = isa_of(file)
        if isa in VECTOR_SETS:
            vector += count.vector
            faults += set_faults(isa, count)
        else:
            baseline += count.total
            if count.vector:
                faults.append(
                    f"{file.relative_to(build)} has {count.vector} instructions beyond the baseline, "
                    f"the first: {count.first}"
                )
    linked = count_instructions(modules[0])
    if linked.vector != vector:
        faults.append(f"{modules[0].name} has {linked.vector} vector instructions, its vector objects have {vector}")
    others = len(objects) - len(isas & set(VECTOR_SETS))
    facts = (
        f"{', '.join(sorted(isas))}: one symbol each; {vector} vector instructions in their objects and in "
        f"{modules[0].name}, none among {baseline} in {others} baseline objects"
    )
    return faults, facts


def main() -> int:
    if len(sys.argv) != 2 or not Path(sys.argv[1]).is_dir():
        print("usage: python wheels/check_isa.py BUILD_DIR", file=sys.stderr)
        return 2
    faults, facts = check(Path(sys.argv[1]))
    for fault in faults:
        print(f"FAIL {fault}")
    if not faults:
        print(f"OK {facts}")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
