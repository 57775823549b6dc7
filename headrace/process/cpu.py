"""What this machine's CPU is, and what its instructions are good for. No torch."""

from __future__ import annotations

import platform
import re
from functools import cache
from pathlib import Path

_INFO = Path("/proc/cpuinfo")
# Instructions that multiply bfloat16 numbers: x86's two, and ARM's. Without them a product in
# bfloat16 is several times slower than in float32 (measured).
BF16_FLAGS = frozenset({"avx512_bf16", "amx_bf16"})
BF16_FLAGS_ARM = frozenset({"bf16"})
# Instructions that multiply bytes and add in 32 bits. Older ones add two products in 16 bits,
# which overflow without a word. ARM has its own, which nobody has tried here.
VNNI_FLAGS = frozenset({"avx512_vnni", "avx_vnni"})


def parse_flags(cpuinfo: str) -> frozenset[str]:
    """The flags of the first core in the text of `/proc/cpuinfo`; empty where it names none."""
    for line in cpuinfo.splitlines():
        name, _, words = line.partition(":")
        if name.strip() in ("flags", "Features"):
            return frozenset(words.split())
    return frozenset()


@cache
def cpu_flags() -> frozenset[str]:
    """This machine's flags; empty where it is not Linux, so that nothing is assumed of it."""
    try:
        return parse_flags(_INFO.read_text())
    except OSError:
        return frozenset()


def parse_name(cpuinfo: str) -> str:
    """The first core's model in the text of `/proc/cpuinfo`; empty where it names none (ARM)."""
    found = re.search(r"^model name\s*:\s*(.*\S)", cpuinfo, re.MULTILINE)
    return found[1] if found else ""


def cpu_name() -> str:
    """This machine's CPU, as far as it says."""
    try:
        name = parse_name(_INFO.read_text())
    except OSError:
        name = ""
    return name or f"{platform.machine()} {' '.join(sorted(cpu_flags()))}".strip()


def multiplies_bf16(flags: frozenset[str], machine: str = "") -> bool:
    """True where a product in bfloat16 is faster than in float32."""
    arm = (machine or platform.machine()).lower() in ("aarch64", "arm64")
    return not flags.isdisjoint(BF16_FLAGS_ARM if arm else BF16_FLAGS)


def multiplies_int8(flags: frozenset[str]) -> bool:
    """True where products of bytes are exact, and faster than float32."""
    return not flags.isdisjoint(VNNI_FLAGS)
