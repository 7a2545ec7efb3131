/** Moving and zooming the map: by pointer, wheel, pinch and keys. */

const STEP = 80;
const FACTOR = 1.6;
/** A pointer that moved less than this has clicked. */
const STILL = 4;

/**
 * Let a map be moved.
 * @param {HTMLElement} area
 * @param {{move: (dx: number, dy: number) => void, zoom: (factor: number, px?: number, py?: number) => void}} hooks
 */
export function useMap(area, { move, zoom }) {
  const pointers = new Map();
  let travelled = 0;

  function within(event) {
    const box = area.getBoundingClientRect();
    return [event.clientX - box.left, event.clientY - box.top];
  }

  function pinch(before) {
    const [a, b] = [...pointers.values()];
    const [px, py] = [(a[0] + b[0]) / 2, (a[1] + b[1]) / 2];
    zoom(Math.hypot(a[0] - b[0], a[1] - b[1]) / Math.max(1, before), px, py);
  }

  function distance() {
    const [a, b] = [...pointers.values()];
    return Math.hypot(a[0] - b[0], a[1] - b[1]);
  }

  area.addEventListener("wheel", (event) => {
    event.preventDefault();
    zoom(Math.exp(-event.deltaY * (event.ctrlKey ? 0.01 : 0.002)), ...within(event));
  }, { passive: false });
  area.addEventListener("dblclick", (event) => !event.target.closest("button") && zoom(FACTOR * FACTOR, ...within(event)));
  area.addEventListener("pointerdown", (event) => {
    travelled = 0;
    pointers.set(event.pointerId, within(event));
  });
  area.addEventListener("pointermove", (event) => {
    const from = pointers.get(event.pointerId);
    if (!from) return;
    const to = within(event);
    const before = pointers.size === 2 ? distance() : 0;
    pointers.set(event.pointerId, to);
    travelled += Math.hypot(to[0] - from[0], to[1] - from[1]);
    // Captured only now: a click on a cluster stays a click.
    if (travelled > STILL) area.setPointerCapture(event.pointerId);
    if (pointers.size === 2) pinch(before);
    else move(to[0] - from[0], to[1] - from[1]);
  });
  for (const name of ["pointerup", "pointercancel"]) area.addEventListener(name, (event) => pointers.delete(event.pointerId));
  area.addEventListener("click", (event) => {
    if (travelled <= STILL) return;
    event.stopPropagation();
    travelled = 0;
  }, { capture: true });
  area.addEventListener("keydown", (event) => {
    const moves = { ArrowLeft: [STEP, 0], ArrowRight: [-STEP, 0], ArrowUp: [0, STEP], ArrowDown: [0, -STEP] };
    const zooms = { "+": FACTOR, "=": FACTOR, "-": 1 / FACTOR, _: 1 / FACTOR };
    if (event.key in moves) move(...moves[event.key]);
    else if (event.key in zooms && !event.ctrlKey && !event.metaKey) zoom(zooms[event.key]);
    else return;
    event.preventDefault();
  });
}
