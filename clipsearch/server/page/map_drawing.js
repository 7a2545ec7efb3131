/** Drawing the map: land, the grid of degrees, and a scale. */

import { language } from "./i18n.js";
import { latitudeOf, longitudeOf, xOf, yOf } from "./map_view.js";

/** From these pixels of the world on, the coast of 1:110 million is too coarse to look at. */
const COARSE = 256 * 2 ** 6;
const TOO_COARSE = 256 * 2 ** 8;
const STEPS = [45, 30, 15, 10, 5, 2, 1, 0.5, 0.2, 0.1, 0.05, 0.02, 0.01, 0.005, 0.002, 0.001];
const LINE_DISTANCE = 140;
const EQUATOR_KM = 40075;
const SCALE_WIDTH = 100;

/**
 * Make a path of land in the world from (0, 0) to (1, 1).
 * @param {{scale: number, rings: string}} land see tools/land_outline.py
 * @returns {Path2D}
 */
export function makeLand({ scale, rings }) {
  const path = new Path2D();
  for (const ring of rings.split(" ")) {
    const steps = readNumbers(ring);
    let [longitude, latitude] = [0, 0];
    for (let at = 0; at < steps.length; at += 2) {
      longitude += steps[at];
      latitude += steps[at + 1];
      const [x, y] = [xOf(longitude / scale), yOf(latitude / scale)];
      if (at) path.lineTo(x, y);
      else path.moveTo(x, y);
    }
    path.closePath();
  }
  return path;
}

/** Read the numbers of an encoded polyline: five bits a letter, the lowest first, of which the very first is the sign. */
function readNumbers(text) {
  const numbers = [];
  let [bits, shift] = [0, 0];
  for (const letter of text) {
    const code = letter.charCodeAt(0) - 63;
    bits |= (code & 31) << shift;
    shift += 5;
    if (code >= 32) continue;
    numbers.push(bits & 1 ? ~(bits >> 1) : bits >> 1);
    bits = shift = 0;
  }
  return numbers;
}

/**
 * Draw a view.
 * @param {HTMLCanvasElement} canvas
 * @param {import("./map_view.js").View} view
 * @param {Path2D | null} land
 */
export function drawMap(canvas, view, land) {
  const ratio = devicePixelRatio;
  const [width, height] = [Math.round(view.width * ratio), Math.round(view.height * ratio)];
  if (canvas.width !== width || canvas.height !== height) Object.assign(canvas, { width, height });
  const pen = canvas.getContext("2d");
  const colours = getComputedStyle(canvas);
  const colour = (name) => colours.getPropertyValue(`--${name}`);
  pen.setTransform(1, 0, 0, 1, 0, 0);
  pen.fillStyle = colour("map-land");
  pen.fillRect(0, 0, width, height);
  // Sea and coast fade out: an empty map says less that is wrong than a coarse one.
  const strength = Math.max(0, Math.min(1, Math.log2(TOO_COARSE / view.scale) / Math.log2(TOO_COARSE / COARSE)));
  Object.assign(pen, { globalAlpha: strength, fillStyle: colour("map-water") });
  pen.fillRect(0, 0, width, height);
  pen.globalAlpha = 1;
  if (land && strength > 0) drawLand(pen, view, { land, ratio, strength, fill: colour("map-land"), line: colour("map-coast") });
  pen.setTransform(ratio, 0, 0, ratio, 0, 0);
  Object.assign(pen, { font: `11px ${colours.fontFamily}`, fillStyle: colours.color, lineWidth: 1 });
  if (strength < 1) drawDegrees(pen, view, colour("map-coast"));
  drawScale(pen, view, colours.color);
}

function drawLand(pen, view, { land, ratio, strength, fill, line }) {
  pen.globalAlpha = strength;
  Object.assign(pen, { fillStyle: fill, strokeStyle: line, lineWidth: 1 / view.scale });
  const half = view.width / 2 / view.scale;
  for (let copy = Math.floor(view.x - half) - 1; copy <= Math.ceil(view.x + half); copy += 1) {
    const size = view.scale * ratio;
    pen.setTransform(size, 0, 0, size, (view.width / 2) * ratio + (copy - view.x) * size, (view.height / 2) * ratio - view.y * size);
    pen.fill(land, "evenodd");
    pen.stroke(land);
  }
  pen.globalAlpha = 1;
}

function drawDegrees(pen, view, line) {
  const step = STEPS.findLast((each) => (each / 360) * view.scale >= LINE_DISTANCE) ?? STEPS[0];
  const digits = Math.max(0, Math.ceil(-Math.log10(step)));
  const [halfX, halfY] = [view.width / 2 / view.scale, view.height / 2 / view.scale];
  pen.strokeStyle = line;
  pen.beginPath();
  for (let n = Math.ceil(longitudeOf(view.x - halfX) / step); n <= longitudeOf(view.x + halfX) / step; n += 1) {
    const x = Math.round(view.width / 2 + (xOf(n * step) - view.x) * view.scale) + 0.5;
    pen.moveTo(x, 0);
    pen.lineTo(x, view.height);
    pen.fillText(formatLongitude(n * step, digits), x + 4, 14);
  }
  for (let n = Math.ceil(latitudeOf(view.y + halfY) / step); n <= latitudeOf(view.y - halfY) / step; n += 1) {
    const y = Math.round(view.height / 2 + (yOf(n * step) - view.y) * view.scale) + 0.5;
    pen.moveTo(0, y);
    pen.lineTo(view.width, y);
    pen.fillText(formatLatitude(n * step, digits), 4, y - 4);
  }
  pen.stroke();
}

/** @param {number} latitude degrees */
export function formatLatitude(latitude, digits = 2) {
  return `${Math.abs(latitude).toFixed(digits)}° ${latitude < 0 ? "S" : "N"}`;
}

/** @param {number} longitude degrees, also beyond 180 */
export function formatLongitude(longitude, digits = 2) {
  const within = ((((longitude + 180) % 360) + 360) % 360) - 180;
  return `${Math.abs(within).toFixed(digits)}° ${within < 0 ? "W" : "E"}`;
}

/** A bar of a round length in the lower left. */
function drawScale(pen, view, colour) {
  const perPixel = (EQUATOR_KM * Math.cos((latitudeOf(view.y) * Math.PI) / 180)) / view.scale;
  const most = perPixel * SCALE_WIDTH;
  const power = 10 ** Math.floor(Math.log10(most));
  const length = [5, 2, 1].find((each) => each * power <= most) * power;
  const [left, bottom, wide] = [12, view.height - 12, length / perPixel];
  Object.assign(pen, { strokeStyle: colour, lineWidth: 1.5 });
  pen.beginPath();
  pen.moveTo(left, bottom - 5);
  pen.lineTo(left, bottom);
  pen.lineTo(left + wide, bottom);
  pen.lineTo(left + wide, bottom - 5);
  pen.stroke();
  const [unit, value] = length < 1 ? ["meter", length * 1000] : ["kilometer", length];
  pen.fillText(new Intl.NumberFormat(language, { style: "unit", unit }).format(value), left + 6, bottom - 4);
}
