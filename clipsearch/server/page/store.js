/** The state of the page: one flat object that is replaced, never changed in place. */

/**
 * @typedef {object} State
 * @property {import("./terms.js").Term[]} terms what is searched for; empty for all items, the newest first
 * @property {Record<string, any>} filters those of the HTTP API, and `months`: a list of `2024-06` or `2024`
 * @property {{likely?: boolean, collapse?: boolean, plain?: boolean, diverse?: boolean, days?: boolean, sort?: string}} options likely: only hits of some confidence; collapse: copies once; plain: nothing is lifted out of the words; diverse: unlike hits first; days: below headings; sort: another order than the usual one
 * @property {string} show which view is open: "photos", "timeline", "map", "collections", "compare" or "jobs"
 * @property {number | null} view the id of the item in the full view
 * @property {import("./results.js").Results | null} results the hits of the search, loaded block by block
 * @property {Map<number, object>} selection selected items by id, as the API gives them
 * @property {number[]} compare ids of the items to compare, at most two
 * @property {object | null} facets counts of the filters `facets.filters`; see facets.js
 * @property {number} changes how often the library was changed here, so that what depends on it is asked for again
 * @property {boolean} isBusy whether a request waits for a busy server
 * @property {{writable: boolean, needsToken: boolean}} capabilities what the server allows
 */

/**
 * Make an observable object.
 * @template T
 * @param {T} initial
 */
export function createStore(initial) {
  let state = initial;
  const listeners = new Set();
  return {
    /** @returns {T} */
    get: () => state,
    /**
     * Change some values, and say so to all who subscribed.
     * @param {Partial<T>} patch
     */
    set(patch) {
      const before = state;
      state = { ...state, ...patch };
      for (const listener of [...listeners]) listener(state, before);
    },
    /**
     * Call a function with the new and the former state after each change.
     * @param {(state: T, before: T) => void} listener
     * @returns {() => void} what ends it
     */
    subscribe(listener) {
      listeners.add(listener);
      return () => listeners.delete(listener);
    },
  };
}
