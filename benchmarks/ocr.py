"""Text in pictures: how much of it is read, how much is made up, and what a picture costs, on one thread.

Pictures are made: English words in the fonts of matplotlib, Chinese ones in the font that is named, on plain ground and
on photographs; straight and turned, small and large, of high and low contrast. With --choose, other photographs, words
and fonts than those of the report are read, once for each side and confidence that could be used.
"""

import argparse
import random
import re
import sys
import time
from collections import Counter
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

sys.path.insert(0, str(Path(__file__).parent))
sys.path.insert(0, str(Path(__file__).parents[1]))

from harness import write_result
from photographs import default_sources, enlarger

from clipsearch.media import ocr

SIZE = (1280, 960)
ENGLISH = {
    False: "exit station museum coffee library platform hospital parking garden market theatre bridge open closed "
    "airport pharmacy school police tickets harbour bakery street river north welcome private danger summer sale hotel",
    True: "entrance railway gallery chocolate college terminal clinic garage forest grocery cinema tunnel push pull "
    "gate dentist teacher fire luggage beach butcher avenue lake south hello public warning winter discount hostel",
}
CHINESE = {
    False: "北京火车站 出口 咖啡店 营业中 图书馆 医院 停车场 博物馆 小心地滑 禁止吸烟 欢迎光临 上海路 售票处 电影院",
    True: "广州机场 入口 面包房 休息中 大学 药店 公共汽车 美术馆 注意安全 请勿拍照 谢谢惠顾 南京街 服务台 体育馆",
}
FONTS = {
    False: ("DejaVuSans.ttf", "DejaVuSerif-Bold.ttf", "STIXGeneral.ttf"),
    True: ("DejaVuSans-Bold.ttf", "cmr10.ttf"),
}
CASES = {
    "straight, 40 px": {},
    "straight, 20 px": {"height": 20},
    "straight, 12 px": {"height": 12},
    "turned by 5°": {"angle": 5},
    "turned by 15°": {"angle": 15},
    "turned by 90°": {"angle": 90},
    "low contrast": {"shade": 30},
    "on photographs": {"photograph": True},
    "on photographs, turned by 15°": {"photograph": True, "angle": 15},
}


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--chinese-font", help="a TrueType font with Chinese characters; none leaves Chinese out")
    options.add_argument("--pictures", type=int, default=8, help="of each kind and language")
    options.add_argument("--photographs", type=int, default=100, help="without text")
    options.add_argument("--sources", type=Path, help="a folder of photographs; see photographs.py")
    options.add_argument("--choose", action="store_true")
    given = options.parse_args()
    _sources.extend(sorted(p for p in (given.sources or default_sources()).iterdir() if p.suffix in (".jpg", ".png")))
    sides = (960, 1280) if given.choose else (ocr.MAX_SIDE,)
    ocr.MIN_CONFIDENCE, kept = 0.0, ocr.MIN_CONFIDENCE
    values = {}
    for side in sides:
        ocr.MAX_SIDE = side
        for confidence in (0.5, 0.6, 0.7, 0.75, 0.8, 0.85, 0.9) if given.choose else (kept,):
            values[f"{side} {confidence}"] = None
        measure(given, side, values)
    if not given.choose:
        write_result("ocr", values[f"{ocr.MAX_SIDE} {kept}"])


def measure(given: argparse.Namespace, side: int, values: dict) -> None:
    recogniser = ocr.TextRecogniser()
    recogniser.read(Image.new("RGB", SIZE))
    found, milliseconds = {}, {}
    for language in ("English", "Chinese") if given.chinese_font else ("English",):
        for case, how in CASES.items():
            started, read = time.process_time(), []
            made = [make(language, i, given, **how) for i in range(given.pictures)]
            started = time.process_time()
            read = [(wanted, recogniser.read(picture)) for picture, wanted in made]
            milliseconds[f"{language}, {case}"] = 1000 * (time.process_time() - started) / len(made)
            found[f"{language}, {case}"] = read
    empty = [photograph(2 * i + given.choose) for i in range(given.photographs)]
    started = time.process_time()
    false = [recogniser.read(picture) for picture in empty]
    without = 1000 * (time.process_time() - started) / len(empty)
    for key in [key for key in values if key.startswith(f"{side} ")]:
        least = float(key.split()[1])
        cases = {case: scores(read, least) | {"ms": round(milliseconds[case])} for case, read in found.items()}
        lines = [line.text for lines in false for line in lines if line.confidence >= least]
        values[key] = {
            "cases": cases,
            "photographs": len(empty),
            "ms_without_text": round(without),
            "false_words_per_100": round(100 * sum(len(line.split()) for line in lines) / len(empty), 1),
            "pictures_with_false_words": sum(any(x.confidence >= least for x in lines) for lines in false),
        }
        print(
            f"{key}: {values[key]['false_words_per_100']} false words in 100 photographs, {without:.0f} ms", lines[:8]
        )
        for case, row in cases.items():
            print(f"  {case:45}", row)


def make(language: str, number: int, given: argparse.Namespace, **how: object) -> tuple[Image.Image, list[str]]:
    """Make a picture of three lines; return it and the lines."""
    rng = random.Random(f"{language} {number} {given.choose} {how}")
    height = int(how.get("height", 40))
    words = (ENGLISH if language == "English" else CHINESE)[given.choose].split()
    if language == "English":
        cased = rng.choice([str.upper, str.title, str.lower])
        lines = [f"{cased(' '.join(rng.sample(words, 2)))} {rng.randint(2, 99)}" for _ in range(3)]
        import matplotlib

        name = rng.choice(FONTS[given.choose])
        font = ImageFont.truetype(Path(matplotlib.get_data_path(), "fonts", "ttf", name), height)
    else:
        lines = [rng.choice(words) for _ in range(3)]
        font = ImageFont.truetype(given.chinese_font, height)
    ground = rng.randint(40, 200)
    picture = photograph(1000 + number) if how.get("photograph") else Image.new("RGB", SIZE, (ground, ground, ground))
    shade = ground + int(how["shade"]) if "shade" in how else 255 if ground < 120 else 0
    for i, line in enumerate(lines):
        box = font.getbbox(line)
        plate = Image.new(
            "RGBA", (box[2] + 24, box[3] + 20), (250, 210, 40, 255) if how.get("photograph") else (0,) * 4
        )
        ink = (20, 20, 60, 255) if how.get("photograph") else (shade, shade, shade, 255)
        ImageDraw.Draw(plate).text((12, 6), line, font=font, fill=ink)
        plate = plate.rotate(float(how.get("angle", 0)), expand=True, resample=Image.Resampling.BICUBIC)
        across = (40 + i * SIZE[0] // 3) if how.get("angle") == 90 else rng.randint(20, SIZE[0] - plate.width - 20)
        down = 40 if how.get("angle") == 90 else 20 + i * (SIZE[1] // 3)
        picture.paste(plate, (across, down), plate)
    return picture, lines


_ENLARGE = enlarger(SIZE)
_sources: list[Path] = []


def photograph(number: int) -> Image.Image:
    with Image.open(_sources[number % len(_sources)]) as opened:
        return _ENLARGE(opened.convert("RGB"), number).resize(SIZE)


def scores(read: list, least: float) -> dict[str, float]:
    """Return in per cent the characters that are right of those found and of those there, and the words found."""
    there, seen, right, words, words_right = 0, 0, 0, 0, 0
    for wanted, lines in read:
        texts = [line.text for line in lines if line.confidence >= least]
        one, other = (Counter(c for text in each for c in text.casefold() if c.isalnum()) for each in (wanted, texts))
        there, seen, right = there + one.total(), seen + other.total(), right + (one & other).total()
        own, got = (Counter(tokens(each)) for each in (wanted, texts))
        words, words_right = words + own.total(), words_right + (own & got).total()
    return {
        "precision": round(100 * right / max(1, seen), 1),
        "recall": round(100 * right / there, 1),
        "words": round(100 * words_right / words, 1),
    }


def tokens(lines: list[str]) -> list[str]:
    return [word for line in lines for word in re.findall(r"\w+", line.casefold())]


if __name__ == "__main__":
    main()
