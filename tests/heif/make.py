#!/usr/bin/env python3
"""Makes the pictures here: pip install pillow pillow-heif; python3 make.py"""

from PIL import Image, ImageCms
import pillow_heif

pillow_heif.register_heif_opener()

RED, GREEN, BLUE, YELLOW = (220, 30, 30), (30, 200, 30), (30, 30, 220), (220, 220, 30)
HELD = {1: None, 3: Image.ROTATE_180, 6: Image.ROTATE_90, 8: Image.ROTATE_270}


def quarters(width, height):
    picture = Image.new("RGB", (width, height))
    for left, top, color in [(0, 0, RED), (1, 0, GREEN), (0, 1, BLUE), (1, 1, YELLOW)]:
        box = [width * left // 2, height * top // 2, width * (left + 1) // 2, height * (top + 1) // 2]
        picture.paste(color, box)
    return picture


for orientation, turn in HELD.items():
    held = quarters(192, 128) if turn is None else quarters(192, 128).transpose(turn)
    exif = Image.Exif()
    exif[0x0112] = orientation
    held.save(f"held{orientation}.heic", quality=80, exif=exif)
quarters(192, 128).save("quarters.avif", quality=80)
clear = quarters(192, 128)
clear.putalpha(Image.new("L", (192, 128), 0))
clear.save("clear.avif", quality=80)
