"""A folder of photographs as people have them: every orientation, mode and size, one subject."""

from __future__ import annotations

from pathlib import Path

from PIL import Image, ImageDraw

RED, GREEN, BLUE = (220, 30, 30), (40, 160, 60), (30, 60, 200)
QUARTER_TURN = 6  # EXIF: the camera was held upright
WORDS = ["character=folder", "character.identifier=Zwx", "character.class_noun=girl"]
SHAPES = {  # name -> upright width and height
    "1-landscape.jpg": (240, 160),
    "2-portrait.png": (150, 230),
    "3-turned.jpg": (160, 240),
    "4-cut-out.png": (180, 180),
    "5-cmyk.jpg": (320, 120),
    "6-scan.png": (128, 200),
    "7-palette.png": (200, 140),
}


def scene(size: tuple[int, int]) -> Image.Image:
    """A green ground, red at the upper left, blue at the lower right, a face in the middle."""
    width, height = size
    image = Image.new("RGB", size, GREEN)
    pen = ImageDraw.Draw(image)
    pen.rectangle((0, 0, width // 4, height // 4), fill=RED)
    pen.rectangle((3 * width // 4, 3 * height // 4, width, height), fill=BLUE)
    pen.ellipse(face(size), fill=(250, 220, 180), outline="black")
    return image


def face(size: tuple[int, int]) -> tuple[int, int, int, int]:
    width, height = size
    radius = min(size) // 4
    return (width // 2 - radius, height // 2 - radius, width // 2 + radius, height // 2 + radius)


def mask(size: tuple[int, int]) -> Image.Image:
    image = Image.new("L", size, 0)
    ImageDraw.Draw(image).ellipse(face(size), fill=255)
    return image


def make_photos(folder: Path, names: tuple[str, ...] = tuple(SHAPES)) -> list[str]:
    """Write them; returns the words that teach with them."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        image, path = scene(SHAPES[name]), folder / name
        if name == "3-turned.jpg":
            exif = Image.Exif()
            exif[0x0112] = QUARTER_TURN
            image.rotate(90, expand=True).save(path, exif=exif.tobytes(), quality=95)
        elif name == "4-cut-out.png":
            image.putalpha(mask(image.size))
            image.save(path)
        elif name == "5-cmyk.jpg":
            image.convert("CMYK").save(path, quality=95)
        elif name == "6-scan.png":
            image.convert("L").convert("I").point(lambda v: v * 257).convert("I;16").save(path)
        elif name == "7-palette.png":
            image.quantize(16).save(path)
        else:
            image.save(path, quality=95)
    return [*WORDS, f"character.images={folder}"]


def make_masks(folder: Path) -> None:
    """`NAME-mask.png` beside each photograph, the face white."""
    for path in list(folder.iterdir()):
        mask(SHAPES[path.name]).save(folder / f"{path.stem}-mask.png")
