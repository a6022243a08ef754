"""Where a file is cut into parts of at most 32 MiB: at fixed places, or by its content.

By content a place is a cut when the eight bytes before it, multiplied by an odd constant, come out small; so what is
put in or appended moves the cuts behind it with the bytes, and parts that did not change keep their digest
(content-defined chunking: Muthitacharoen, Chen, Mazieres, "A low-bandwidth network file system", SOSP 2001). A part has
a quarter of the average at least and four times the average at most. How large the average is depends on the file's
size, so that no file has many more than 512 parts; a file of at most 64 KiB is one part.

A revision's digest covers its parts: what stands here must cut the same way for ever.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import BinaryIO

PART_BYTES = 32 << 20
WHOLE_BYTES = 64 << 10
AVERAGES = ((8 << 20, 14), (32 << 20, 16), (128 << 20, 18), (512 << 20, 20), (2 << 30, 22))
"""Up to which size of a file its parts have which power of two of bytes on average."""
LARGEST_AVERAGE = 23
BLOCK = 128 << 10
WINDOW = 8
FACTOR, OFFSET = 0x9E3779B97F4A7C15, 0xD1B54A32D192ED03


def in_blocks(file: BinaryIO, size: int) -> Iterator[bytes]:
    """Yield a file's parts as cut at fixed places: 32 MiB each, the last one less."""
    while part := file.read(PART_BYTES):
        yield part


def by_content(file: BinaryIO, size: int) -> Iterator[bytes]:
    """Yield the parts of a file of so many bytes as cut by content; at most 64 MiB are in memory."""
    if size <= WHOLE_BYTES:
        yield from in_blocks(file, size)
        return
    bits = next((bits for most, bits in AVERAGES if size <= most), LARGEST_AVERAGE)
    most = 4 << bits
    held, start, ended = bytearray(), 0, False
    while True:
        if not ended and len(held) - start < most:
            del held[:start]
            start = 0
            more = file.read(max(most, BLOCK))
            ended = not more
            held += more
            continue
        if start == len(held):
            return
        end = start + _cut(memoryview(held)[start : start + most], bits)
        yield bytes(memoryview(held)[start:end])
        start = end


def _cut(held: memoryview, bits: int) -> int:
    """Return how long the first part of some bytes is, which are all that it may have."""
    import numpy as np

    factor, offset, limit = np.uint64(FACTOR), np.uint64(OFFSET), np.uint64(1 << (64 - bits))
    least, block = 1 << (bits - 2), min(BLOCK, 1 << bits)
    for begin in range(least, len(held) + 1, block):
        found = []
        # A cut lies behind its window, so the windows begin eight bytes before
        for shift in range(WINDOW):
            first = begin - WINDOW + shift
            words = (min(begin + block, len(held) + 1) - 1 - first) // WINDOW
            if words > 0:
                small = np.flatnonzero(np.frombuffer(held, "<u8", words, first) * factor + offset < limit)
                if len(small):
                    found.append(first + WINDOW * (int(small[0]) + 1))
        if found:
            return min(found)
    return len(held)
