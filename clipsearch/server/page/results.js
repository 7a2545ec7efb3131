/** The hits of one search, loaded block by block in any order, so that the scrollbar may be dragged anywhere. */

export const BLOCK = 100;

/** How far the server passes over hits, and so where a list ends at the latest. */
const MOST = 100_000 + BLOCK;

/**
 * @typedef {object} Block
 * @property {object[]} items items or hits, as the API gives them
 * @property {boolean} [confident] whether any hit of a ranked search stands out
 * @property {string[]} warnings
 * @property {number | null} total how many there are; null where the server does not count, as in a ranked search
 * @property {boolean} hasMore
 */

export class Results {
  /**
   * @param {(offset: number, count: number, signal: AbortSignal) => Promise<Block>} load
   * @param {{sort: string, isRanked?: boolean, isLikely?: boolean, isWhole?: boolean}} about sort: what they are sorted by;
   *   isRanked: of a search; isLikely: without weak hits; isWhole: with all that the filters allow
   */
  constructor(load, about) {
    Object.assign(this, about);
    /** How many hits there are, as far as that is known. */
    this.total = 0;
    this.confident = true;
    this.warnings = [];
    this.understood = null;
    /** The position of the item that has, or last had, the focus. */
    this.active = 0;
    this._load = load;
    this._blocks = new Map();
    this._pending = new Map();
    this._listeners = new Set();
    this._end = null;
    this._expected = null;
  }

  /** How many blocks there are, loaded or not. */
  get blockCount() {
    return Math.ceil(this.total / BLOCK);
  }

  /** Whether the total is final, rather than what the filters allow. */
  get isCounted() {
    return this._end !== null;
  }

  /** Whether the total is that of the filters, which a ranked search finds all. */
  get isExpected() {
    return this._expected !== null;
  }

  /**
   * Return the items of a block, or undefined before it is loaded.
   * @param {number} index
   */
  block(index) {
    return this._blocks.get(index);
  }

  /** How many items block `index` has, or will have. */
  sizeOf(index) {
    return this.block(index)?.length ?? Math.min(BLOCK, this.total - index * BLOCK);
  }

  /** @param {number} position of an item among all hits, from 0 */
  at(position) {
    return this.block(Math.floor(position / BLOCK))?.[position % BLOCK];
  }

  /** All items that are loaded, in order. */
  loaded() {
    return [...this._blocks.keys()].sort((a, b) => a - b).flatMap((index) => this._blocks.get(index));
  }

  /** @param {number} id @returns {number} the position of a loaded item, or -1 */
  positionOf(id) {
    for (const [index, items] of this._blocks) {
      const within = items.findIndex((item) => item.id === id);
      if (within >= 0) return index * BLOCK + within;
    }
    return -1;
  }

  /**
   * Load a block once.
   * @param {number} index
   * @returns {Promise<void>} rejects with a Problem; asking again tries again
   */
  load(index) {
    if (this._blocks.has(index)) return Promise.resolve();
    if (!this._pending.has(index)) {
      const abort = new AbortController();
      const loading = this._fetch(index, abort.signal).finally(() => {
        if (this._pending.get(index)?.loading === loading) this._pending.delete(index);
      });
      this._pending.set(index, { loading, abort });
    }
    return this._pending.get(index).loading;
  }

  /**
   * Read items that the grid need not keep.
   * @param {number} offset
   * @param {number} count
   * @returns {Promise<Block>} rejects with a Problem
   */
  read(offset, count) {
    return this._load(offset, count);
  }

  /**
   * Say why a hit stands where it does.
   * @param {number} position
   * @returns {Promise<object>} rejects with a Problem
   */
  async explain(position) {
    return (await this._load(position, 1, undefined, true)).items[0].explanation;
  }

  /** @param {number} index of a block that nobody waits for any more */
  giveUp(index) {
    this._pending.get(index)?.abort.abort();
    this._pending.delete(index);
  }

  /** @param {number} total how many items the filters allow: as many as a ranked search can find */
  expect(total) {
    this._expected = total;
    this._recount();
    this._notify();
  }

  /** Give up what is loading. */
  abort() {
    for (const index of [...this._pending.keys()]) this.giveUp(index);
  }

  /** @param {() => void} listener called when a block is loaded or the total changes @returns {() => void} what ends it */
  subscribe(listener) {
    this._listeners.add(listener);
    return () => this._listeners.delete(listener);
  }

  async _fetch(index, signal) {
    const found = await this._load(index * BLOCK, BLOCK, signal);
    this._blocks.set(index, found.items);
    if (index === 0) Object.assign(this, { confident: found.confident ?? true, warnings: found.warnings, understood: found.understood?.description });
    if (found.total !== null) this._end = found.total;
    else if (!found.hasMore) this._end = Math.min(this._end ?? Infinity, index * BLOCK + found.items.length);
    this._recount();
    this._notify();
  }

  _recount() {
    const loaded = Math.max(0, ...[...this._blocks].map(([index, items]) => index * BLOCK + items.length));
    const guess = this._end ?? this._expected ?? (loaded ? loaded + BLOCK : 0);
    this.total = Math.min(MOST, this._end === null ? Math.max(guess, loaded) : guess);
  }

  _notify() {
    for (const listener of [...this._listeners]) listener();
  }
}
