"""Drawings of every format are read alike, and every bad folder gives one message naming all."""

from __future__ import annotations

import hashlib
import json
import struct
import subprocess
import sys
import zlib
from collections.abc import Callable
from io import BytesIO
from pathlib import Path

import pytest
from helpers.drawn import load, message_of
from helpers.small import loaded_after
from PIL import Image, ImageDraw
from PIL.PngImagePlugin import PngInfo

from charsweep.character import (
    load_held_out,
    load_truth,
    middle_square,
)
from charsweep.config import load_sweep
from charsweep.core.errors import CharacterError
from charsweep.core.keys import digest_of
from charsweep.core.system.images import natural_order, open_image
from charsweep.models.embedded import UNICORN_GIRL, UNICORN_GIRL_EXAM

RED, BLUE, WHITE = (255, 0, 0), (0, 0, 255), (255, 255, 255)
WIDTH, HEIGHT = 80, 40
UPSIDE_DOWN, QUARTER_TURN = 3, 6  # values of the EXIF tag "orientation"


def drawing(mode: str = "RGB") -> Image.Image:
    """Left half red, right half blue, in `mode`."""
    image = Image.new("RGB", (WIDTH, HEIGHT), RED)
    ImageDraw.Draw(image).rectangle((WIDTH // 2, 0, WIDTH, HEIGHT), fill=BLUE)
    return image.convert(mode)


def half_transparent(mode: str) -> Image.Image:
    """Left half opaque red (grey 76 in LA), right half fully transparent."""
    image = drawing().convert("RGBA")
    image.paste((0, 0, 255, 0), (WIDTH // 2, 0, WIDTH, HEIGHT))
    return image.convert(mode)


def palette_with_transparency() -> bytes:
    image = drawing().quantize(2)
    clear = image.getpixel((WIDTH - 1, 0))
    return encoded(image, "PNG", transparency=clear)


def sixteen_bit() -> bytes:
    """Left half full white, right half the middle grey 0x8000."""
    row = b"\xff\xff" * (WIDTH // 2) + b"\x00\x80" * (WIDTH // 2)
    image = Image.frombytes("I;16", (WIDTH, HEIGHT), row * HEIGHT)
    return encoded(image, "PNG")


def encoded(image: Image.Image, form: str, **options: object) -> bytes:
    buffer = BytesIO()
    image.save(buffer, form, **options)
    return buffer.getvalue()


def turned(orientation: int) -> bytes:
    exif = Image.Exif()
    exif[0x0112] = orientation
    return encoded(drawing(), "JPEG", exif=exif.tobytes(), quality=95)


def with_long_texts() -> bytes:
    """A PNG as programs write it that put the whole of their work into it."""
    info = PngInfo()
    info.add_text("workflow", "x" * 3_000_000, zip=True)
    info.add_itxt("prompt", "y" * 3_000_000, zip=True)
    exif = Image.Exif()
    exif[0x0112] = UPSIDE_DOWN
    image = drawing().rotate(180)
    return encoded(image, "PNG", pnginfo=info, exif=exif.tobytes())


def draw_into(folder: Path, *names: str) -> None:
    folder.mkdir(exist_ok=True)
    for name in names:
        (folder / name).write_bytes(encoded(drawing(), "PNG"))


def png_header_claiming(width: int, height: int) -> bytes:
    """A valid PNG of a few bytes that says it is `width` × `height`."""
    return png_of(width, height, zlib.compress(b"\0" * 100))


def png_of(width: int, height: int, pixels: bytes) -> bytes:
    """A PNG in RGB of packed rows."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        check = struct.pack(">I", zlib.crc32(kind + data))
        return struct.pack(">I", len(data)) + kind + data + check

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    start = b"\x89PNG\r\n\x1a\n"
    return start + chunk(b"IHDR", header) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")


FORMATS: dict[str, tuple[Callable[[], bytes], tuple[int, ...], tuple[int, ...]]] = {
    "RGB png": (lambda: encoded(drawing(), "PNG"), RED, BLUE),
    "RGB jpeg": (lambda: encoded(drawing(), "JPEG", quality=95), RED, BLUE),
    "lossy webp": (lambda: encoded(drawing(), "WEBP", quality=95), RED, BLUE),
    "lossless webp": (lambda: encoded(drawing(), "WEBP", lossless=True), RED, BLUE),
    "RGBA webp": (lambda: encoded(half_transparent("RGBA"), "WEBP", lossless=True), RED, WHITE),
    "RGBA png": (lambda: encoded(half_transparent("RGBA"), "PNG"), RED, WHITE),
    "L png": (lambda: encoded(drawing("L"), "PNG"), (76,) * 3, (29,) * 3),
    "LA png": (lambda: encoded(half_transparent("LA"), "PNG"), (76,) * 3, WHITE),
    "1-bit png": (lambda: encoded(Image.new("1", (WIDTH, HEIGHT), 1), "PNG"), WHITE, WHITE),
    "P png": (lambda: encoded(drawing().quantize(2), "PNG"), RED, BLUE),
    "P png with transparency": (palette_with_transparency, RED, WHITE),
    "bmp": (lambda: encoded(drawing(), "BMP"), RED, BLUE),
    "P bmp": (lambda: encoded(drawing().quantize(2), "BMP"), RED, BLUE),
    "avif": (lambda: encoded(drawing(), "AVIF", quality=95), RED, BLUE),
    "RGBA avif": (lambda: encoded(half_transparent("RGBA"), "AVIF", quality=95), RED, WHITE),
    "gif": (lambda: encoded(drawing(), "GIF"), RED, BLUE),
    "tiff": (lambda: encoded(drawing(), "TIFF", compression="tiff_lzw"), RED, BLUE),
    "CMYK tiff": (lambda: encoded(drawing("CMYK"), "TIFF"), RED, BLUE),
    "png with long texts": (with_long_texts, RED, BLUE),
    "CMYK jpeg": (lambda: encoded(drawing("CMYK"), "JPEG", quality=95), RED, BLUE),
    "L jpeg": (lambda: encoded(drawing("L"), "JPEG", quality=95), (76,) * 3, (29,) * 3),
    "16-bit png": (sixteen_bit, WHITE, (128,) * 3),
    "upside-down jpeg": (lambda: turned(UPSIDE_DOWN), BLUE, RED),
}


@pytest.mark.parametrize("name", FORMATS)
def test_every_format_is_read_as_upright_rgb_on_white(tmp_path: Path, name: str) -> None:
    make, left, right = FORMATS[name]
    path = tmp_path / "drawing"
    path.write_bytes(make())
    image = open_image(path)
    assert image.mode == "RGB"
    assert image.size == (WIDTH, HEIGHT)
    for x, expected in ((5, left), (WIDTH - 5, right)):
        pixel = image.getpixel((x, HEIGHT // 2))
        assert isinstance(pixel, tuple)
        assert pixel == pytest.approx(expected, abs=8)


def test_a_quarter_turn_in_exif_swaps_width_and_height(tmp_path: Path) -> None:
    path = tmp_path / "phone.jpg"
    path.write_bytes(turned(QUARTER_TURN))
    image = open_image(path)
    assert image.size == (HEIGHT, WIDTH)
    assert image.getpixel((HEIGHT // 2, 5)) == pytest.approx(RED, abs=8)


def test_open_picture_names_the_file_it_cannot_read(tmp_path: Path) -> None:
    with pytest.raises(CharacterError, match=r"nowhere\.png: cannot be read"):
        open_image(tmp_path / "nowhere.png")


def test_the_shipped_character_loads() -> None:
    girl = load(UNICORN_GIRL)
    assert [path.name for path in girl.paths] == [f"0{n}.png" for n in range(1, 7)]
    assert len(set(girl.spec.digests)) == len(girl.spec.captions) == 6
    assert all("UnicornGirl" in caption for caption in girl.spec.captions)


def test_images_are_found_by_content_in_natural_order(tmp_path: Path) -> None:
    draw_into(tmp_path, "10.png", "2.png", "B1.png", "a3.PNG", "no-ending", ".hidden.png")
    (tmp_path / "notes.md").write_text("not a picture")
    (tmp_path / "empty-file").touch()
    (tmp_path / "folder.png").mkdir()
    names = [path.name for path in load(tmp_path).paths]
    assert names == ["2.png", "10.png", "a3.PNG", "B1.png", "no-ending"]


def test_natural_order_compares_any_two_names() -> None:
    names = ["", "7", "a", "a01", "a1", "A1", "1a", "07", "²", "٣"]
    backwards = names[::-1]
    ordered = sorted(names, key=natural_order)
    assert ordered == sorted(backwards, key=natural_order)
    assert ordered.index("7") < ordered.index("a") < ordered.index("a1")


def test_digests_are_of_the_bytes_alone(tmp_path: Path) -> None:
    draw_into(tmp_path / "one", "a.png")
    draw_into(tmp_path / "two", "b.png")
    one, two = load(tmp_path / "one").spec, load(tmp_path / "two").spec
    assert one == two
    (tmp_path / "two" / "b.png").write_bytes(encoded(drawing(), "PNG", compress_level=1))
    assert load(tmp_path / "two").spec.digests != one.digests


def test_a_digest_is_sha_256_of_the_file(tmp_path: Path) -> None:
    draw_into(tmp_path, "a.png")
    expected = hashlib.sha256((tmp_path / "a.png").read_bytes()).hexdigest()[:16]
    assert load(tmp_path).spec.digests == (expected,)


# --- captions


def test_captions_from_text_files_metadata_and_the_prompt(tmp_path: Path) -> None:
    draw_into(tmp_path, "1.png", "2.png", "3.png")
    (tmp_path / "1.txt").write_text("\ufeffa girl\n  who stands\n", encoding="utf-8")
    row = {"file_name": "./2.png", "text": "she sits", "other": 1}
    (tmp_path / "metadata.jsonl").write_text(json.dumps(row) + "\n\n")
    girl = load(tmp_path)
    assert girl.spec.captions == ("a girl who stands", "she sits", "a picture of Miavex")


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("9.txt", "hello", "9.txt: is a caption without an image: add 9.png"),
        ("1.txt", " \n", "1.txt: the caption is empty"),
        ("1.txt", b"\xff\xfe\xfa", "1.txt: is not UTF-8 text"),
        ("2.txt", "whose?", "2.txt: is the caption of which image, 2.jpg or 2.png?"),
        ("metadata.jsonl", "{file_name: 1}", "line 1: {file_name: 1} is not valid JSON"),
        ("metadata.jsonl", "[" * 100_000, "is not valid JSON"),
        ("metadata.jsonl", '\n"text"', 'line 2: "text" is no object'),
        (
            "metadata.jsonl",
            '{"file_name": "1.png"}',
            "has no caption, its columns are file_name: call",
        ),
        ("metadata.jsonl", '{"file_name": "1.png", "text": 5}', '"text" is 5: a text is needed'),
        ("metadata.jsonl", '{"file_name": 1, "text": "x"}', '"file_name" is 1: a text'),
        ("metadata.jsonl", '{"file_name": "7.png", "text": "x"}', "7.png is no image in"),
        ("metadata.jsonl", '{"file_name": "", "text": "x"}', "is no image in the folder"),
        ("metadata.jsonl", '{"file_name": "../1.png", "text": "x"}', "../1.png points outside"),
        ("metadata.jsonl", '{"file_name": "/1.png", "text": "x"}', "/1.png points outside"),
        ("metadata.jsonl", '{"file_name": "sub/1.png", "text": "x"}', "is in a subfolder: move"),
        ("metadata.jsonl", '{"file_name": "1.png", "text": ""}', "the caption is empty"),
        (
            "metadata.jsonl",
            '{"file_name": "1.png", "text": "x"}\n{"file_name": "1.png", "text": "y"}',
            "line 2: gives 1.png a second caption",
        ),
        ("metadata.jsonl", b"\xff\xfe\xfa", "metadata.jsonl: is not UTF-8 text"),
    ],
)
def test_bad_captions(tmp_path: Path, name: str, content: str | bytes, said: str) -> None:
    draw_into(tmp_path, "1.png", "2.png", "2.jpg")
    draw_into(tmp_path / "sub", "1.png")
    data = content.encode() if isinstance(content, str) else content
    (tmp_path / name).write_bytes(data)
    message = message_of(tmp_path)
    assert said in message
    assert len(message.splitlines()) == 1


def test_two_captions_for_one_image(tmp_path: Path) -> None:
    draw_into(tmp_path, "1.png")
    (tmp_path / "1.txt").write_text("one")
    (tmp_path / "metadata.jsonl").write_text('{"file_name": "1.png", "text": "two"}')
    assert "1.png: has a caption in 1.txt and another in metadata.jsonl" in message_of(tmp_path)


# --- bad images


def broken_files(folder: Path) -> dict[str, str]:
    """Write one file of every kind that cannot be used; name -> what must be said of it."""
    png, jpeg, webp = (encoded(drawing(), form) for form in ("PNG", "JPEG", "WEBP"))
    contents = {
        "cut.png": png[: len(png) // 2],
        "cut.jpg": jpeg[: len(jpeg) // 2],
        "cut.webp": webp[: len(webp) // 2],
        "header.png": png[:20],
        "damaged.png": png[:50] + bytes(20) + png[70:],
        "empty.png": b"",
        "text.jpeg": b"this is not an image",
        "new.jxl": b"\xff\x0a" + bytes(20),
        "liar.png": encoded(drawing(), "PPM"),
        "moving.gif": encoded(drawing(), "GIF", save_all=True, append_images=[drawing("L")]),
        "tiny.png": encoded(Image.new("RGB", (31, 200)), "PNG"),
        "huge.png": png_header_claiming(17_600, 10_000),
        "bomb.png": png_header_claiming(100_000, 100_000),
    }
    folder.mkdir(exist_ok=True)
    for name, data in contents.items():
        (folder / name).write_bytes(data)
    (folder / "link.png").symlink_to(folder / "gone.png")
    return {
        "cut.png": "cannot be decoded",
        "cut.jpg": "cannot be decoded",
        "cut.webp": "",
        "header.png": "",
        "damaged.png": "cannot be decoded",
        "empty.png": "is empty (0 bytes): copy it again",
        "text.jpeg": "its content is not PNG, JPEG, WebP, AVIF, BMP, GIF or TIFF: convert it",
        "new.jxl": "its content is not PNG, JPEG, WebP, AVIF, BMP, GIF or TIFF: convert it",
        "moving.gif": "holds 2 images: save the one that you mean as a PNG",
        "liar.png": "its content is not PNG, JPEG, WebP, AVIF, BMP, GIF or TIFF: convert it",
        "tiny.png": "31 × 200 pixels is too small: at least 32 × 32 are needed",
        "huge.png": "17600 × 10000 pixels is too large: at most 175 million",
        "bomb.png": "is too large",
        "link.png": "cannot be read (No such file or directory)",
    }


def test_one_message_names_every_bad_image_and_no_good_one(tmp_path: Path) -> None:
    expected = broken_files(tmp_path)
    draw_into(tmp_path, "good.png")
    first, *lines = message_of(tmp_path).splitlines()
    assert first == f"character mia, folder {tmp_path}: {len(expected)} things to mend"
    said = dict(line.strip().split(": ", 1) for line in lines)
    assert said.keys() == expected.keys()
    for name, part in expected.items():
        assert part in said[name]
        assert "BytesIO" not in said[name]


def test_a_scan_of_139_megapixels_is_read_within_a_bound_of_memory(tmp_path: Path) -> None:
    """Four bytes a pixel while it is decoded, and a quarter of its pixels afterwards."""
    width, height = 9933, 14043  # A2 at 600 dpi
    bound = 5 * width * height + 300_000_000
    whole = zlib.compressobj(1)
    row = b"\0" + bytes(RED) * width
    packed = b"".join([*(whole.compress(row) for _ in range(height)), whole.flush()])
    (tmp_path / "scan.png").write_bytes(png_of(width, height, packed))
    code = (
        "import resource, sys\nfrom pathlib import Path\n"
        "from charsweep.core.system.images import open_image\n"
        f"resource.setrlimit(resource.RLIMIT_AS, ({bound}, {bound}))\n"
        "image = open_image(Path(sys.argv[1]))\n"
        "print(*image.size, *image.getpixel((9, 9)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "scan.png")],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert [int(n) for n in done.stdout.split()] == [(width + 1) // 2, (height + 1) // 2, *RED]


def test_the_size_limit_is_our_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", None)
    (tmp_path / "bomb.png").write_bytes(png_header_claiming(100_000, 100_000))
    assert "100000 × 100000 pixels is too large" in message_of(tmp_path)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)  # warns, then raises, without our limit
    draw_into(tmp_path, "bomb.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", WIDTH * HEIGHT - 1)
    assert len(load(tmp_path).paths) == 1


def test_an_unreadable_file_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    draw_into(tmp_path, "locked.png")

    def refuse(path: Path) -> bytes:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "read_bytes", refuse)  # chmod does not stop root
    assert "locked.png: cannot be read (Permission denied)" in message_of(tmp_path)


def test_bad_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert message_of(tmp_path / "none").endswith("does not exist: give the folder of the images")
    assert "holds no PNG, JPEG, WebP, AVIF, BMP, GIF or TIFF: put one drawing" in message_of(
        tmp_path
    )
    draw_into(tmp_path, "a.png")
    assert "a.png is a file: give the folder" in message_of(tmp_path / "a.png")

    def refuse(path: Path) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "iterdir", refuse)
    assert "cannot be read (Permission denied)" in message_of(tmp_path)


# --- words


def test_the_class_prompt_is_without_the_identifier(tmp_path: Path) -> None:
    draw_into(tmp_path, "a.png")
    said = message_of(tmp_path, class_prompt="a Miavex")
    assert 'class_prompt "a Miavex" contains the identifier' in said


def test_words_images_and_captions_are_all_told_at_once(tmp_path: Path) -> None:
    (tmp_path / "a.png").touch()
    (tmp_path / "b.txt").write_text("b")
    assert len(message_of(tmp_path, class_prompt="a Miavex").splitlines()) == 4


# --- held out


def test_the_last_drawings_are_held_out_of_training(tmp_path: Path) -> None:
    draw_into(tmp_path, "1.png", "2.png", "10.png")
    whole, most = load(tmp_path), load(tmp_path, held_out=1)
    assert whole.held_out is None
    assert most.held_out is not None
    assert [path.name for path in most.paths] == ["1.png", "2.png"]
    assert [path.name for path in most.held_out.paths] == ["10.png"]
    assert (*most.spec.digests, *most.held_out.digests) == whole.spec.digests
    assert len(most.spec.captions) == 2


@pytest.mark.parametrize("count", [2, 3])
def test_something_is_left_to_teach(tmp_path: Path, count: int) -> None:
    draw_into(tmp_path, "1.png", "2.png")
    assert f"held_out={count} leaves none of its 2 images to teach" in message_of(
        tmp_path, held_out=count
    )


def test_a_folder_of_drawings_is_held_out(tmp_path: Path) -> None:
    with pytest.raises(CharacterError, match=r"character\.held_out, folder .*: it holds no PNG"):
        load_held_out(tmp_path)
    draw_into(tmp_path, "b.png", "a.png")
    assert [path.name for path in load_held_out(tmp_path).paths] == ["a.png", "b.png"]


# --- true pictures


def test_the_shipped_truth_loads() -> None:
    truth = load_truth(UNICORN_GIRL_EXAM, 8)
    assert truth.paths == tuple(UNICORN_GIRL_EXAM / f"0{n}.png" for n in range(8))
    assert truth.digests == tuple(digest_of(file.read_bytes()) for file in truth.paths)
    assert len(set(truth.digests)) == 8


def test_truth_is_one_picture_per_prompt(tmp_path: Path) -> None:
    draw_into(tmp_path, "00.png", "02.png", "02.jpg", "zebra.png")
    with pytest.raises(CharacterError) as caught:
        load_truth(tmp_path, 2)
    lines = str(caught.value).splitlines()
    assert lines[1] == "  01.png is missing: draw it"
    assert [line.split()[0] for line in lines[2:]] == ["02.jpg", "02.png", "zebra.png"]


def test_truth_counts_past_one_hundred(tmp_path: Path) -> None:
    draw_into(tmp_path, *(f"{n:02d}.png" for n in range(101)))
    assert len(load_truth(tmp_path, 101).paths) == 101


def test_broken_truth_is_named(tmp_path: Path) -> None:
    (tmp_path / "00.png").touch()
    with pytest.raises(CharacterError, match=r"00\.png: is empty"):
        load_truth(tmp_path, 1)


# --- at the size of the models


def test_middle_square_takes_the_middle_square() -> None:
    small = middle_square(drawing(), 20)
    assert small.size == (20, 20)
    assert small.getpixel((4, 10)) == RED
    assert small.getpixel((15, 10)) == BLUE


def test_a_whole_factor_is_a_plain_mean() -> None:
    image = Image.effect_noise((512, 512), 80).convert("RGB")
    assert middle_square(image, 64).tobytes() == image.reduce(8).tobytes()
    assert middle_square(image, 512).tobytes() == image.tobytes()


@pytest.mark.parametrize("size", [(64, 64), (65, 64), (97, 300), (127, 129), (1000, 131), (33, 32)])
def test_any_size_gives_the_resolution_and_keeps_flat_colour(size: tuple[int, int]) -> None:
    small = middle_square(Image.new("RGB", size, (10, 200, 30)), 64)
    assert small.size == (64, 64)
    assert small.getcolors() == [(64 * 64, (10, 200, 30))]


def test_fine_detail_is_averaged_not_picked() -> None:
    stripes = Image.new("RGB", (1000, 1000))
    for x in range(0, 1000, 2):
        stripes.paste(WHITE, (x, 0, x + 1, 1000))
    low, high = middle_square(stripes, 64).convert("L").getextrema()
    assert 100 < low <= high < 155  # type: ignore[operator]


def test_torch_is_not_imported() -> None:
    loaded = loaded_after("import charsweep.character.load")
    assert "charsweep" in loaded
    assert "torch" not in loaded


def test_drawings_are_held_out_of_training(tmp_path: Path) -> None:
    words = [f"root={tmp_path}", "exam=quick"]
    whole = load_sweep(words)
    assert whole.character.held_out is None
    kept = load_sweep([*words, "character.held_out=2"])
    digests = whole.character.spec.digests
    assert kept.character.held_out is not None
    assert kept.character.spec.digests == digests[:4]
    assert kept.character.spec.captions == whole.character.spec.captions[:4]
    assert kept.character.held_out.digests == digests[4:] == kept.cells[0].exam.held_out
    other = load_sweep([*words, f"character.held_out={whole.character.paths[0].parent}"])
    assert other.character.spec.digests == digests == other.cells[0].exam.held_out
    assert other.cells[0].key == whole.cells[0].key  # the same images, measured otherwise
    with pytest.raises(CharacterError, match="held_out=6 leaves none of its 6 images to teach"):
        load_sweep([*words, "character.held_out=6"])
