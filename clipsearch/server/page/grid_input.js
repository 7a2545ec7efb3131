/** What clicks, touches and keys do in the grid. */

import { addExtras } from "./tile.js";

const LONG_PRESS = 450;

/**
 * Let a grid be used.
 * @param {{store: object, actions: object}} ctx
 * @param {import("./grid.js").Grid} grid
 */
export function useGrid(ctx, grid) {
  const input = new GridInput(ctx, grid);
  useLongPress(grid.element, (position) => input.select(position, false));
}

class GridInput {
  constructor({ store, actions }, grid) {
    this._store = store;
    this._actions = actions;
    this._grid = grid;
    this._results = grid.results;
    /** From where Shift selects. */
    this._from = null;
    const { element } = grid;
    element.addEventListener("click", (event) => this._onClick(event));
    element.addEventListener("keydown", (event) => this._onKey(event));
    element.addEventListener("focusin", (event) => this._onFocus(event));
    element.addEventListener("pointerover", (event) => showExtras(event, this._results));
  }

  /** Select or unselect an item; with Shift all from the one before. */
  select(position, isRange) {
    const item = this._results.at(position);
    if (!item) return;
    const on = isRange || !this._store.get().selection.has(item.id);
    const from = isRange ? (this._from ?? position) : position;
    const items = [];
    for (let each = Math.min(from, position); each <= Math.max(from, position); each += 1) items.push(this._results.at(each));
    this._actions.select(items.filter(Boolean), on);
    this._from = position;
  }

  _onClick(event) {
    const tile = event.target.closest(".tile");
    const what = event.target.closest("[data-do]")?.dataset.do;
    if (!tile || !what) return;
    if (what === "open" && (event.ctrlKey || event.metaKey)) return; // the browser opens a new tab
    event.preventDefault();
    const [position, id] = [positionOf(tile), Number(tile.dataset.id)];
    this._results.active = position;
    if (what === "like") this._actions.like([id]);
    else if (what === "unlike") this._actions.like([id], -1);
    else if (what === "check" || event.shiftKey || this._store.get().selection.size) this.select(position, event.shiftKey);
    else this._actions.open(id);
  }

  _onFocus(event) {
    const tile = event.target.closest(".tile");
    if (tile) this._results.active = positionOf(tile);
    showExtras(event, this._results);
  }

  _onKey(event) {
    const tile = event.target.closest(".tile");
    if (!tile || event.altKey) return;
    const position = positionOf(tile);
    const to = destination(this._grid, position, event);
    const run = to === null ? this._actionOf(event, position, Number(tile.dataset.id)) : () => this._move(position, to, event.shiftKey);
    if (!run) return;
    event.preventDefault();
    run();
  }

  _actionOf({ key, shiftKey, ctrlKey, metaKey }, position, id) {
    if (ctrlKey || metaKey) return null;
    const select = () => this.select(position, shiftKey);
    const keys = {
      Enter: () => this._actions.open(id),
      m: () => this._actions.like([id]),
      l: () => this._actions.like([id], -1),
      x: select,
      " ": select,
    };
    return keys[key.length === 1 ? key.toLowerCase() : key];
  }

  /** Move the focus; with Shift, select what one moves over. */
  _move(position, to, isSelecting) {
    if (isSelecting) {
      const from = this._from ?? position;
      this._from = from;
      this.select(to, true);
      this._from = from;
    }
    this._grid.focus(to);
  }
}

function positionOf(tile) {
  return Number(tile.dataset.position);
}

function showExtras(event, results) {
  const tile = event.target.closest(".tile");
  if (tile) addExtras(tile, results.at(positionOf(tile)));
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
  element.addEventListener("pointerdown", (event) => {
    hasRun = false;
    const tile = event.target.closest(".tile");
    if (event.pointerType !== "touch" || !tile) return;
    timer = setTimeout(() => {
      hasRun = true;
      run(positionOf(tile));
    }, LONG_PRESS);
  });
  for (const name of ["pointerup", "pointercancel", "pointermove"]) element.addEventListener(name, () => clearTimeout(timer));
  element.addEventListener("contextmenu", (event) => event.pointerType === "touch" && event.preventDefault());
  // The click that ends a long press would take back what it did.
  element.addEventListener("click", (event) => hasRun && (event.preventDefault(), event.stopImmediatePropagation()), true);
}
