/**
 * What part of the world a map shows, in Web Mercator. Pure functions.
 *
 * The world is a square from (0, 0) in the north-west to (1, 1); x goes on beyond 180 degrees.
 */

export const MIN_SCALE = 200;
/** Pixels of the world; a street is then some pixels wide. */
export const MAX_SCALE = 256 * 2 ** 18;
const LIMIT = 85.0511;

/** @typedef {{x: number, y: number, scale: number, width: number, height: number}} View x, y: the middle; scale: pixels of the world */

/** @param {number} longitude degrees */
export function xOf(longitude) {
  return longitude / 360 + 0.5;
}

/** @param {number} latitude degrees */
export function yOf(latitude) {
  const bounded = Math.max(-LIMIT, Math.min(LIMIT, latitude));
  return 0.5 - Math.asinh(Math.tan((bounded * Math.PI) / 180)) / (2 * Math.PI);
}

/** @returns {number} degrees, also beyond 180 */
export function longitudeOf(x) {
  return (x - 0.5) * 360;
}

/** @returns {number} degrees */
export function latitudeOf(y) {
  return (Math.atan(Math.sinh((0.5 - y) * 2 * Math.PI)) * 180) / Math.PI;
}

/**
 * Return where a place is in pixels, in the copy of the world that is nearest to the middle.
 * @param {View} view
 */
export function pixelOf(view, latitude, longitude) {
  const x = xOf(longitude);
  const nearest = x + Math.round(view.x - x);
  return [view.width / 2 + (nearest - view.x) * view.scale, view.height / 2 + (yOf(latitude) - view.y) * view.scale];
}

/**
 * Keep a view within the world: never wider than one, never past the poles.
 * @param {View} view
 * @returns {View}
 */
export function bounded(view) {
  const scale = Math.min(MAX_SCALE, Math.max(MIN_SCALE, view.width, view.height * 0.8, view.scale));
  const half = view.height / 2 / scale;
  const y = half >= 0.5 ? 0.5 : Math.min(1 - half, Math.max(half, view.y));
  return { ...view, scale, y, x: view.x - Math.floor(view.x) };
}

/**
 * Zoom so that what lies under a pixel stays there.
 * @param {View} view
 */
export function zoomed(view, factor, px = view.width / 2, py = view.height / 2) {
  const { scale } = bounded({ ...view, scale: view.scale * factor });
  const [dx, dy] = [px - view.width / 2, py - view.height / 2];
  const by = 1 / view.scale - 1 / scale;
  return bounded({ ...view, scale, x: view.x + dx * by, y: view.y + dy * by });
}

/** @param {View} view */
export function moved(view, dx, dy) {
  return bounded({ ...view, x: view.x - dx / view.scale, y: view.y - dy / view.scale });
}

/**
 * Show a box whole, with some room around it.
 * @param {View} view
 * @param {[number, number, number, number]} box south, west, north, east; west above east crosses the date line
 */
export function fitted(view, [south, west, north, east], most = 256 * 2 ** 10) {
  const span = ((east - west) % 360 + 360) % 360 || (east === west ? 0 : 360);
  const [top, bottom] = [yOf(north), yOf(south)];
  const room = 0.8;
  const scale = Math.min(most, (view.width * room) / Math.max(1e-9, span / 360), (view.height * room) / Math.max(1e-9, bottom - top));
  return bounded({ ...view, scale, x: xOf(west + span / 2), y: (top + bottom) / 2 });
}

/**
 * Return the box that a view shows, or null where it shows all around the world.
 * @param {View} view
 * @returns {[number, number, number, number] | null} south, west, north, east
 */
export function boxOf({ x, y, scale, width, height }) {
  const [halfX, halfY] = [width / 2 / scale, height / 2 / scale];
  const [south, north] = [latitudeOf(Math.min(1, y + halfY)), latitudeOf(Math.max(0, y - halfY))];
  if (halfX >= 0.5) return halfY >= 0.5 ? null : [rounded(south), -180, rounded(north), 180];
  return [rounded(south), wrapped(longitudeOf(x - halfX)), rounded(north), wrapped(longitudeOf(x + halfX))];
}

function wrapped(longitude) {
  return rounded(((((longitude + 180) % 360) + 360) % 360) - 180);
}

function rounded(degrees) {
  return Math.round(degrees * 1e6) / 1e6;
}
