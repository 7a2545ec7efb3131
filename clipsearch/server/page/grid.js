/** The grid of hits. Only rows near the screen are in the document, however many hits there are. */

import { toAddress } from "./address.js";
import { h } from "./dom.js";
import { formatDate, t } from "./i18n.js";
import { GAP, guessHeight, HEAD, layOutBlock, targetHeight } from "./layout.js";
import { BLOCK } from "./results.js";
import { allows } from "./searching.js";
import { createTile, showContent } from "./tile.js";

/** How many screens are filled above and below what is seen. */
const AHEAD = 0.75;
/** Scrolling faster than so many screens a frame loads nothing until it slows down. */
const FAST = 0.8;
const SETTLED = 120;

export class Grid {
  /**
   * @param {object} ctx
   * @param {import("./results.js").Results} results of which the first block is loaded
   * @param {(problem: Error) => void} onFault called when a block cannot be loaded
   */
  constructor({ store }, results, onFault) {
    this._store = store;
    this._onFault = onFault;
    this.results = results;
    this.element = h("div", {
      class: "grid", role: "grid", "aria-label": t("results"), "aria-multiselectable": "true", "aria-rowcount": -1,
    });
    this._dayOf = store.get().options.days && allows(store.get(), "days") ? (item) => item.taken_at?.slice(0, 10) ?? "" : null;
    this._rows = new Map();
    this._blocks = [];
    this._loading = new Set();
    this._width = 0;
    this._lastTop = 0;
    this._ahead = AHEAD;
    this._settle = 0;
    this._frame = 0;
    this._observer = new ResizeObserver(() => this._resize());
    this._observer.observe(this.element);
    this._onScroll = () => (this._frame ||= requestAnimationFrame(() => this._draw()));
    addEventListener("scroll", this._onScroll, { passive: true });
    this._unsubscribe = results.subscribe(() => this._relayOut());
  }

  /** Take the grid down; the results stay. */
  destroy() {
    this._observer.disconnect();
    this._unsubscribe();
    removeEventListener("scroll", this._onScroll);
    cancelAnimationFrame(this._frame);
    clearTimeout(this._settle);
  }

  /** @param {Map<number, object>} selection shows which items are in it */
  markSelected(selection) {
    for (const tile of this.tiles()) tile.setAttribute("aria-selected", String(selection.has(Number(tile.dataset.id))));
  }

  /** @param {number} id gives the focus back to an item, after the full view */
  focusItem(id) {
    const position = this.results.positionOf(id);
    if (position >= 0) this.focus(position);
  }

  /** Load what could not be loaded. */
  retry() {
    this._draw();
  }

  /** Lay out and draw at once, for a grid that has just been put into the page. */
  drawNow() {
    this._ahead = 0; // what is seen comes first
    this._resize();
    this._ahead = AHEAD;
    this._onScroll();
  }

  /** @returns {HTMLElement[]} the cells that are in the document */
  tiles() {
    return [...this._rows.values()].flatMap((row) => [...row.querySelectorAll(".tile")]);
  }

  /** @param {number} position @returns {HTMLElement | undefined} */
  tileAt(position) {
    return this.tiles().find((tile) => Number(tile.dataset.position) === position);
  }

  /**
   * Move the focus to an item, and scroll to it.
   * @param {number} position
   */
  async focus(position) {
    let wanted = Math.max(0, Math.min(this.results.total - 1, position));
    await this.results.load(Math.floor(wanted / BLOCK));
    wanted = Math.min(this.results.total - 1, wanted); // the end may be known only now
    if (!this.results.at(wanted)) return;
    this.results.active = wanted;
    this.scrollTo(wanted);
    this._draw();
    this.tileAt(wanted)?.focus({ preventScroll: true });
  }

  /** @param {number} position scrolls to it, as little as is needed */
  scrollTo(position) {
    const row = this._rowOf(position);
    if (!row) return;
    if (!row.first) return scrollTo(0, 0);
    const top = this._top() + this._blocks[row.block].top + row.top;
    const above = row.day === undefined ? 0 : HEAD;
    const header = document.querySelector(".header").offsetHeight + GAP + above;
    const below = top + row.height - (scrollY + innerHeight - 72);
    if (top < scrollY + header) scrollTo(0, top - header);
    else if (below > 0) scrollBy(0, below);
  }

  /**
   * Return the position in the row above or below that is nearest.
   * @param {number} position
   * @param {1 | -1} by
   */
  vertical(position, by) {
    const row = this._rowOf(position);
    const next = row && this._rowOf(by > 0 ? row.first + row.widths.length : row.first - 1);
    if (!next) return position;
    const middle = middles(row.widths)[position - row.first];
    const distances = middles(next.widths).map((each) => Math.abs(each - middle));
    return next.first + distances.indexOf(Math.min(...distances));
  }

  /** @param {number} position @returns {[number, number]} the first and the last position of its row */
  rowBounds(position) {
    const row = this._rowOf(position);
    return row ? [row.first, row.first + row.widths.length - 1] : [position, position];
  }

  /** How many rows fit on the screen. */
  get rowsOnScreen() {
    return Math.max(1, Math.floor((innerHeight * 0.8) / (targetHeight(this._width) + GAP)));
  }

  _rowOf(position) {
    const index = Math.floor(position / BLOCK);
    const block = this._blocks[index];
    const row = block?.rows?.findLast((each) => each.start <= position - index * BLOCK);
    return row && position >= 0 && position < this.results.total ? { ...row, block: index, first: index * BLOCK + row.start } : null;
  }

  _top() {
    return this.element.getBoundingClientRect().top + scrollY;
  }

  _resize() {
    const width = this.element.clientWidth;
    if (!width || width === this._width) return;
    this._width = width;
    for (const row of this._rows.values()) row.remove();
    this._rows.clear();
    for (const block of this._blocks) block.rows = null;
    this._relayOut();
  }

  /** Place the blocks one below the other, and keep on the screen what is there. */
  _relayOut() {
    if (!this._width) return;
    const anchor = this._anchor();
    const count = this.results.blockCount;
    let top = 0;
    for (let index = 0; index < count; index += 1) {
      const block = this._layOutBlock(index, index === count - 1);
      this._blocks[index] = { ...block, top };
      top += block.height;
    }
    this._blocks.length = count;
    this.element.style.height = `${Math.max(0, top - GAP)}px`;
    this._hold(anchor);
    this._placeRows();
    this._draw();
  }

  _layOutBlock(index, isEnd) {
    const items = this.results.block(index);
    const known = this._blocks[index];
    if (!items) return { rows: null, height: guessHeight(this.results.sizeOf(index), this._width) };
    const before = this._dayOf && index ? this.results.at(index * BLOCK - 1) : undefined;
    if (known?.rows && known.isEnd === isEnd && known.before === before) return known;
    for (const [key, row] of this._rows) if (key.startsWith(`${index}.`)) (row.remove(), this._rows.delete(key));
    return { ...layOutBlock(items, this._width, isEnd, this._dayOf, before), isEnd, before };
  }

  /** The row at the top of the screen, and how far below the top it is. */
  _anchor() {
    const at = scrollY - this._top();
    if (at <= 0 || !this._blocks.length) return null;
    const index = Math.max(0, this._blocks.findLastIndex((block) => block.top <= at));
    const { rows, top, height } = this._blocks[index];
    const row = rows?.findLast((each) => top + each.top <= at);
    return { index, start: row?.start ?? null, offset: at - top - (row?.top ?? 0), share: (at - top) / height };
  }

  _hold(anchor) {
    if (!anchor || anchor.index >= this._blocks.length) return;
    const { rows, top, height } = this._blocks[anchor.index];
    const row = anchor.start === null ? null : rows?.findLast((each) => each.start <= anchor.start);
    const wanted = top + (row ? row.top + anchor.offset : anchor.share * height);
    const moved = wanted - (scrollY - this._top());
    if (Math.abs(moved) >= 1) scrollBy(0, moved);
  }

  _placeRows() {
    for (const [key, element] of this._rows) {
      const [block, row] = key.split(".").map(Number);
      const found = this._blocks[block]?.rows?.[row];
      if (found) element.style.top = `${this._blocks[block].top + found.top}px`;
      else (element.remove(), this._rows.delete(key));
    }
  }

  _draw() {
    this._frame = 0;
    if (!this._width) return;
    const top = scrollY - this._top();
    const isFast = Math.abs(top - this._lastTop) > innerHeight * FAST;
    this._lastTop = top;
    const wanted = this._wantedRows(top - innerHeight * this._ahead, top + innerHeight * (1 + this._ahead), isFast);
    this._giveUp(wanted);
    for (const [key, element] of this._rows) {
      if (!wanted.has(key)) (element.remove(), this._rows.delete(key));
    }
    for (const [key, { block, row, index }] of wanted) if (!this._rows.has(key)) this._addRow(key, block, row, index);
    if (isFast) this._settle = (clearTimeout(this._settle), setTimeout(() => this._draw(), SETTLED));
    else this.tiles().forEach(showContent);
    this._markActive();
  }

  /** Return the rows between two heights, and that with the focus; load the blocks of which nothing is known. */
  _wantedRows(from, to, isFast) {
    const wanted = new Map();
    const first = Math.max(0, this._blocks.findLastIndex((block) => block.top <= from));
    for (let index = first; index < this._blocks.length && this._blocks[index].top < to; index += 1) {
      const block = this._blocks[index];
      if (!block.rows) wanted.set(`${index}.-1`, { block, row: null, index });
      if (!block.rows && !isFast) this._load(index);
      block.rows?.forEach((row, place) => {
        const top = block.top + row.top;
        if (top < to && top + row.height > from) wanted.set(`${index}.${place}`, { block, row, index });
      });
    }
    const active = this.element.contains(document.activeElement) ? this._rowOf(this.results.active) : null;
    if (active) {
      const block = this._blocks[active.block];
      const place = block.rows.findIndex((row) => row.start === active.start);
      wanted.set(`${active.block}.${place}`, { block, row: block.rows[place], index: active.block });
    }
    return wanted;
  }

  _load(index) {
    this._loading.add(index);
    this.results.load(index).catch(this._onFault).finally(() => this._loading.delete(index));
  }

  /** What was scrolled past before it came is not waited for: it would hold up what is seen. */
  _giveUp(wanted) {
    const near = new Set([...wanted.values()].map(({ index }) => index));
    for (const index of this._loading) if (!near.has(index)) this.results.giveUp(index);
  }

  _addRow(key, block, row, index) {
    if (!row) return this._addPending(key, block);
    const state = this._store.get();
    const items = this.results.block(index);
    const tiles = row.widths.map((width, column) => {
      const item = items[row.start + column];
      const href = toAddress({ ...state, view: item.id });
      const place = { position: index * BLOCK + row.start + column, column, width, height: row.height, href };
      return createTile(item, { ...place, isSelected: state.selection.has(item.id) });
    });
    const style = { top: `${block.top + row.top}px`, height: `${row.height}px` };
    const element = h("div", { class: "grid-row", role: "row", style, "data-key": key }, row.day !== undefined && dayHeading(row.day), tiles);
    this._rows.set(key, element);
    this._insert(element, key);
  }

  /** Stand in for a block that is being loaded. */
  _addPending(key, { top, height }) {
    const element = h("div", { class: "grid-pending", "data-key": key, style: { top: `${top}px`, height: `${height - GAP}px` } });
    this._rows.set(key, element);
    this._insert(element, key);
  }

  /** Rows are in the document in the order in which they are seen, for whoever reads it rather than sees it. */
  _insert(element, key) {
    const [block, row] = key.split(".").map(Number);
    const next = [...this.element.children].find((each) => {
      const [otherBlock, otherRow] = each.dataset.key.split(".").map(Number);
      return otherBlock > block || (otherBlock === block && otherRow > row);
    });
    this.element.insertBefore(element, next ?? null);
  }

  /** One cell at a time can be reached by Tab. */
  _markActive() {
    const tiles = this.tiles();
    const active = tiles.find((tile) => Number(tile.dataset.position) === this.results.active) ?? tiles[0];
    for (const tile of tiles) {
      const wanted = tile === active ? 0 : -1;
      if (tile.tabIndex !== wanted) tile.tabIndex = wanted;
    }
  }
}

function dayHeading(day) {
  return h("div", { class: "day", role: "rowheader" }, h("h2", {}, day ? formatDate(day, { dateStyle: "full" }) : t("noDay")));
}

function middles(widths) {
  let left = 0;
  return widths.map((width) => {
    const middle = left + width / 2;
    left += width + GAP;
    return middle;
  });
}
