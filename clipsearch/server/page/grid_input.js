/** What clicks, touches and keys do in the grid. */

import { addExtras } from "./tile.js";

const LONG_PRESS = 450;

/**
 * Let a grid be used.
 * @param {{store: object, actions: object}} ctx
 * @param {import("./grid.js").Grid} grid
 */
export function useGrid({ store, actions }, grid) {
  const { element, results } = grid;
  let rangeFrom = null;

  /** Select or unselect an item; with Shift all from the one before. */
  function select(position, isRange) {
    const item = results.at(position);
    if (!item) return;
    const on = isRange || !store.get().selection.has(item.id);
    const from = isRange && rangeFrom !== null ? rangeFrom : position;
    const [first, last] = [Math.min(from, position), Math.max(from, position)];
    const items = [];
    for (let each = first; each <= last; each += 1) items.push(results.at(each));
    actions.select(items.filter(Boolean), on);
    rangeFrom = position;
  }

  element.addEventListener("click", (event) => {
    const tile = event.target.closest(".tile");
    const what = event.target.closest("[data-do]")?.dataset.do;
    if (!tile || !what) return;
    if (what === "open" && (event.ctrlKey || event.metaKey)) return; // the browser opens a new tab
    event.preventDefault();
    const position = Number(tile.dataset.position);
    const id = Number(tile.dataset.id);
    results.active = position;
    if (what === "like") actions.like([id]);
    else if (what === "unlike") actions.like([id], -1);
    else if (what === "check" || event.shiftKey || store.get().selection.size) select(position, event.shiftKey);
    else actions.open(id);
  });

  element.addEventListener("focusin", (event) => {
    const tile = event.target.closest(".tile");
    if (!tile) return;
    results.active = Number(tile.dataset.position);
    addExtras(tile, results.at(results.active));
  });

  element.addEventListener("pointerover", (event) => {
    const tile = event.target.closest(".tile");
    if (tile) addExtras(tile, results.at(Number(tile.dataset.position)));
  });

  element.addEventListener("keydown", (event) => {
    const tile = event.target.closest(".tile");
    if (!tile || event.altKey) return;
    const position = Number(tile.dataset.position);
    const id = Number(tile.dataset.id);
    const to = destination(grid, position, event);
    if (to !== null) {
      event.preventDefault();
      if (event.shiftKey) selectTo(to);
      grid.focus(to);
      return;
    }
    if (event.ctrlKey || event.metaKey) return;
    const keys = {
      Enter: () => actions.open(id),
      m: () => actions.like([id]),
      l: () => actions.like([id], -1),
      x: () => select(position, event.shiftKey),
      " ": () => select(position, event.shiftKey),
    };
    const run = keys[event.key.length === 1 ? event.key.toLowerCase() : event.key];
    if (!run) return;
    event.preventDefault();
    run();
  });

  /** Shift and an arrow select what one moves over. */
  function selectTo(position) {
    rangeFrom ??= results.active;
    const keep = rangeFrom;
    select(position, true);
    rangeFrom = keep;
  }

  useLongPress(element, (tile) => select(Number(tile.dataset.position), false));
}

/** Return the position to which a key moves, or null for a key that does not move. */
function destination(grid, position, { key, ctrlKey, metaKey }) {
  const [first, last] = grid.rowBounds(position);
  const all = ctrlKey || metaKey;
  switch (key) {
    case "ArrowLeft": return position - 1;
    case "ArrowRight": return position + 1;
    case "ArrowUp": return grid.vertical(position, -1);
    case "ArrowDown": return grid.vertical(position, 1);
    case "Home": return all ? 0 : first;
    case "End": return all ? grid.results.total - 1 : last;
    case "PageUp": return repeat(grid, position, -1);
    case "PageDown": return repeat(grid, position, 1);
    default: return null;
  }
}

function repeat(grid, position, by) {
  let at = position;
  for (let row = 0; row < grid.rowsOnScreen; row += 1) at = grid.vertical(at, by);
  return at;
}

/** On a touch screen a long press selects, as there is no pointer that could show a checkbox. */
function useLongPress(element, run) {
  let timer = 0;
  let hasRun = false;
  const stop = () => clearTimeout(timer);
  element.addEventListener("pointerdown", (event) => {
    hasRun = false;
    const tile = event.target.closest(".tile");
    if (event.pointerType !== "touch" || !tile) return;
    timer = setTimeout(() => {
      hasRun = true;
      run(tile);
    }, LONG_PRESS);
  });
  for (const name of ["pointerup", "pointercancel", "pointermove"]) element.addEventListener(name, stop);
  element.addEventListener("contextmenu", (event) => event.pointerType === "touch" && event.preventDefault());
  // The click that ends a long press would take back what it did.
  element.addEventListener("click", (event) => hasRun && (event.preventDefault(), event.stopImmediatePropagation()), true);
}
