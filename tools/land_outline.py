"""Make the outline of land that the map of the page draws: clipsearch/server/page/land.json.

The source is Natural Earth 1:110m land (public domain, https://www.naturalearthdata.com), as the npm package
world-atlas 2.0.2 has it in TopoJSON:

    npm pack world-atlas@2.0.2 && tar -xzf world-atlas-2.0.2.tgz
    python tools/land_outline.py package/land-110m.json
"""

from __future__ import annotations

import argparse
import json
import math
from pathlib import Path

PAGE = Path(__file__).resolve().parents[1] / "clipsearch" / "server" / "page"
SCALE = 10
TOLERANCE = 0.1
"""Degrees that the outline may be off."""
SMALLEST = 0.3
"""Square degrees of a ring that is kept."""

Point = tuple[float, float]


def main() -> None:
    """Write the file, and say how large it is."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("topology", type=Path)
    parser.add_argument("--out", type=Path, default=PAGE / "land.json")
    options = parser.parse_args()
    rings = [unwrap(ring) for ring in read_rings(json.loads(options.topology.read_text()))]
    kept = [simplify_ring(ring) for ring in rings if abs(area(ring)) >= SMALLEST]
    made = {
        "source": "Natural Earth 1:110m land, https://www.naturalearthdata.com",
        "license": "public domain",
        "format": f"encoded polylines of longitude, latitude in 1/{SCALE} degree",
        "scale": SCALE,
        "rings": " ".join(encode(differences(ring)) for ring in kept),
    }
    text = json.dumps(made, separators=(",", ":"))
    options.out.write_text(text + "\n")
    print(f"{options.out}: {len(text)} bytes, {len(kept)} rings, {sum(map(len, kept))} points")


def read_rings(topology: dict) -> list[list[Point]]:
    """Decode the arcs of a quantised topology, and join them to rings.

    https://github.com/topojson/topojson-specification
    """
    (sx, sy), (tx, ty) = topology["transform"]["scale"], topology["transform"]["translate"]
    arcs = []
    for steps in topology["arcs"]:
        x = y = 0
        arc = []
        for dx, dy in steps:
            x, y = x + dx, y + dy
            arc.append((x * sx + tx, y * sy + ty))
        arcs.append(arc)
    found = []
    for shape in topology["objects"]["land"]["geometries"]:
        polygons = [shape["arcs"]] if shape["type"] == "Polygon" else shape["arcs"]
        for ring in (ring for polygon in polygons for ring in polygon):
            points: list[Point] = []
            for index in ring:
                arc = arcs[index] if index >= 0 else arcs[~index][::-1]
                points += arc[1:] if points else arc
            found.append(points)
    return found


def unwrap(ring: list[Point]) -> list[Point]:
    """Let a ring run past 180 degrees rather than jump; one around a pole is closed along it."""
    out = [ring[0]]
    for x, y in ring[1:]:
        last = out[-1][0]
        out.append((x + 360 * round((last - x) / 360), y))
    if abs(out[-1][0] - out[0][0]) > 180:
        pole = math.copysign(90, out[0][1])
        out += [(out[-1][0], pole), (out[0][0], pole), out[0]]
    return out


def area(ring: list[Point]) -> float:
    """Return the area in square degrees, by the shoelace formula."""
    return sum(a[0] * b[1] - b[0] * a[1] for a, b in zip(ring, ring[1:] + ring[:1], strict=True)) / 2


def simplify_ring(ring: list[Point]) -> list[Point]:
    """Simplify a closed ring, in halves, since its ends are one point."""
    middle = len(ring) // 2
    return simplify(ring[: middle + 1])[:-1] + simplify(ring[middle:])


def simplify(line: list[Point]) -> list[Point]:
    """Leave out points that the line does not need: Douglas and Peucker, Cartographica 1973."""
    if len(line) < 3:
        return line
    distances = [distance(point, line[0], line[-1]) for point in line]
    furthest = max(range(len(line)), key=distances.__getitem__)
    if distances[furthest] <= TOLERANCE:
        return [line[0], line[-1]]
    return simplify(line[: furthest + 1])[:-1] + simplify(line[furthest:])


def distance(point: Point, start: Point, end: Point) -> float:
    """Return how far a point is from a line, in degrees as they are at its latitude."""
    narrow = max(0.2, math.cos(math.radians(point[1])))
    (px, py), (ax, ay), (bx, by) = ((x * narrow, y) for x, y in (point, start, end))
    length = math.hypot(bx - ax, by - ay)
    if length == 0:
        return math.hypot(px - ax, py - ay)
    return abs((bx - ax) * (ay - py) - (ax - px) * (by - ay)) / length


def differences(ring: list[Point]) -> list[int]:
    """Round a ring, leave out what became equal, and write each point as a step from the one before."""
    out: list[int] = []
    x = y = 0
    for lon, lat in ring:
        step = (round(lon * SCALE) - x, round(lat * SCALE) - y)
        if out and step == (0, 0):
            continue
        out += step
        x, y = x + step[0], y + step[1]
    return out


def encode(numbers: list[int]) -> str:
    """Write numbers as letters, the sign and five bits first: the encoded polyline algorithm format of Google."""
    out = ""
    for number in numbers:
        left = ~(number << 1) if number < 0 else number << 1
        while left >= 32:
            out += chr((left & 31 | 32) + 63)
            left >>= 5
        out += chr(left + 63)
    return out


if __name__ == "__main__":
    main()
