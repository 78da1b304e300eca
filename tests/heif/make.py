#!/usr/bin/env python3
"""Makes the pictures here: pip install pillow pillow-heif; python3 make.py

As phones write them, turned ones say so in a property of the picture (`irot`, ISO/IEC 23008-12, 6.5.10);
what EXIF says does not count in HEIF.
"""

import struct

from PIL import Image
import pillow_heif

pillow_heif.register_heif_opener()

RED, GREEN, BLUE, YELLOW = (220, 30, 30), (30, 200, 30), (30, 30, 220), (220, 220, 30)
# How the picture is stored, and by how many quarter turns, anticlockwise, that is mended.
HELD = {1: (None, 0), 3: (Image.ROTATE_180, 2), 6: (Image.ROTATE_90, 3), 8: (Image.ROTATE_270, 1)}


def quarters(width, height):
    picture = Image.new("RGB", (width, height))
    for left, top, color in [(0, 0, RED), (1, 0, GREEN), (0, 1, BLUE), (1, 1, YELLOW)]:
        box = [width * left // 2, height * top // 2, width * (left + 1) // 2, height * (top + 1) // 2]
        picture.paste(color, box)
    return picture


def grow(file, name, by):
    at = file.index(name) - 4
    file[at:at + 4] = struct.pack(">I", struct.unpack_from(">I", file, at)[0] + by)


def turn(path, quarter_turns):
    """Adds the property, as the last one, and says that the picture (the only item) has it."""
    file = bytearray(open(path, "rb").read())
    data = file.index(b"mdat") + 4
    offset = file.index(struct.pack(">I", data), file.index(b"iloc"))
    ipco = file.index(b"ipco") - 4
    end = ipco + struct.unpack_from(">I", file, ipco)[0]
    at, properties = ipco + 8, 0
    while at < end:
        at, properties = at + struct.unpack_from(">I", file, at)[0], properties + 1
    # Version and flags, entries, the item's number, its properties, a byte each.
    count = file.index(b"ipma") + 4 + 4 + 4 + 2
    file.insert(count + 1 + file[count], 0x80 | properties + 1)
    file[count] += 1
    file[end:end] = struct.pack(">I4sB", 9, b"irot", quarter_turns)
    file[offset:offset + 4] = struct.pack(">I", data + 10)
    for name, by in ((b"ipma", 1), (b"ipco", 9), (b"iprp", 10), (b"meta", 10)):
        grow(file, name, by)
    open(path, "wb").write(file)


for orientation, (turned, mended) in HELD.items():
    held = quarters(192, 128) if turned is None else quarters(192, 128).transpose(turned)
    held.save(f"held{orientation}.heic", quality=80)
    if mended:
        turn(f"held{orientation}.heic", mended)
quarters(192, 128).save("quarters.avif", quality=80)
clear = quarters(192, 128)
clear.putalpha(Image.new("L", (192, 128), 0))
clear.save("clear.avif", quality=80)
