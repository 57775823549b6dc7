"""This machine's CPU, and which number formats its instructions are fast in. No torch."""

from __future__ import annotations

import platform
import re
from functools import cache
from pathlib import Path

CPUINFO = Path("/proc/cpuinfo")
# Instructions that multiply bfloat16 numbers: x86's two, and ARM's. Without them a product in
# bfloat16 is several times slower than in float32 (measured).
BF16_FLAGS = frozenset({"avx512_bf16", "amx_bf16"})
BF16_FLAGS_ARM = frozenset({"bf16"})
# Instructions that multiply bytes and add in 32 bits. AVX2 adds two products in 16 bits first, and
# saturates: the engine rounds weights so that this does not happen (`int8`), and is then 1.3 times
# as fast as in float32 (measured, Zen 3). AVX-512 without VNNI (Intel before 2019) would gain less,
# its float32 being twice as wide; neither that nor ARM's own instructions were tried.
VNNI_FLAGS = frozenset({"avx512_vnni", "avx_vnni"})
INT8_NEEDS = "VNNI (Intel since 2019, AMD since Zen 4), or AVX2 without AVX-512"


def parse_flags(cpuinfo: str) -> frozenset[str]:
    """The flags of the first core, from the text of `/proc/cpuinfo`; empty if there are none."""
    for line in cpuinfo.splitlines():
        name, _, words = line.partition(":")
        if name.strip() in ("flags", "Features"):
            return frozenset(words.split())
    return frozenset()


@cache
def cpu_flags() -> frozenset[str]:
    """This machine's CPU flags; empty on systems other than Linux."""
    try:
        return parse_flags(CPUINFO.read_text())
    except OSError:
        return frozenset()


def parse_name(cpuinfo: str) -> str:
    """The model name of the first core, from the text of `/proc/cpuinfo`; empty if there is none (ARM)."""
    found = re.search(r"^model name\s*:\s*(.*\S)", cpuinfo, re.MULTILINE)
    return found[1] if found else ""


def cpu_name() -> str:
    """The name of this machine's CPU, as far as it is known."""
    try:
        name = parse_name(CPUINFO.read_text())
    except OSError:
        name = ""
    return name or f"{platform.machine()} {' '.join(sorted(cpu_flags()))}".strip()


def multiplies_bf16(flags: frozenset[str], machine: str = "") -> bool:
    """Whether multiplying in bfloat16 is faster than in float32."""
    arm = (machine or platform.machine()).lower() in ("aarch64", "arm64")
    return not flags.isdisjoint(BF16_FLAGS_ARM if arm else BF16_FLAGS)


def multiplies_int8(flags: frozenset[str]) -> bool:
    """Whether int8 was found to be correct and faster than float32."""
    return adds_in_32_bits(flags) or ("avx2" in flags and "avx512f" not in flags)


def adds_in_32_bits(flags: frozenset[str]) -> bool:
    """Whether sums of int8 products are made in 32 bits, and cannot overflow."""
    return not flags.isdisjoint(VNNI_FLAGS)


def number_formats(flags: frozenset[str] | None = None, machine: str = "") -> dict[str, str]:
    """Each number format a job may ask for, and why this CPU does not support it; empty if it does.

    Without `flags` and `machine`, those of this machine are taken.
    """
    flags = cpu_flags() if flags is None else flags
    slow = "without AVX512_BF16 or AMX it is several times slower than float32"
    return {
        "float32": "",
        "bfloat16": "" if multiplies_bf16(flags, machine) else slow,
        "int8": "" if multiplies_int8(flags) else f"it needs {INT8_NEEDS}; nothing else was tried",
        "float16": "it is for GPUs",
    }
