/** Steps of the page: each changes the store and the address, and back and forward undo it. */

import { fromAddress, toAddress } from "./address.js";
import { createResults } from "./searching.js";
import { UPLOAD } from "./terms.js";

/** Results of so many searches are kept, so that one comes back to them at once. */
const KEPT = 6;

export class PageHistory {
  /**
   * @param {{api: object, store: object, pictures: object}} parts
   * @param {() => void} onPictureGone called where an address needs a picture that is no longer there
   */
  constructor({ api, store, pictures }, onPictureGone) {
    this._api = api;
    this._store = store;
    this._pictures = pictures;
    this._onPictureGone = onPictureGone;
    this._cache = new Map();
  }

  /**
   * Change the state, and the address: as a new entry of the history, or in place of the present one.
   * @param {Partial<import("./store.js").State>} patch
   * @param {{replace?: boolean}} [how]
   */
  go(patch, { replace = false } = {}) {
    const next = { ...this._store.get(), ...patch };
    const address = toAddress(next);
    const picture = this._pictures.currentId();
    const isSame = address === location.pathname + location.search && picture === (history.state?.picture ?? null);
    if (replace || isSame) {
      history.replaceState({ ...history.state, picture, ...(patch.terms && { scroll: 0 }) }, "", address);
    } else {
      this.keepScroll();
      history.pushState({ picture, opened: next.view !== null, scroll: 0 }, "", address);
    }
    this._apply(patch);
  }

  /** Show what the address says: at the start, and after back or forward. */
  restore() {
    const found = fromAddress(location.search);
    const needsPicture = found.terms.some((term) => term.value === UPLOAD);
    if (!this._pictures.use(history.state?.picture) && needsPicture) {
      const others = found.terms.filter((term) => term.value !== UPLOAD);
      found.terms = others.some((term) => term.sign > 0) ? others : []; // the server refuses what only says what not to find
      history.replaceState(history.state, "", toAddress(found));
      this._onPictureGone();
    }
    this._apply(this._isShown(found) ? { view: found.view } : found);
  }

  /** Remember how far the page is scrolled, for when one comes back to this entry. */
  keepScroll() {
    history.replaceState({ ...history.state, scroll: window.scrollY }, "");
  }

  /** Ask the server for everything again, after the library changed. */
  refresh() {
    this._cache.clear();
    const { terms, filters, options, changes } = this._store.get();
    this._apply({ terms, filters, options, changes: changes + 1 });
  }

  /** Whether only the full view differs from what is shown; a picture that was searched by may be another one. */
  _isShown(found) {
    const shown = this._store.get();
    const isSame = toAddress({ ...found, view: null }) === toAddress({ ...shown, view: null });
    return shown.results !== null && isSame && this._resultsOf(found) === shown.results;
  }

  _apply(patch) {
    const isSearch = ["terms", "filters", "options"].some((name) => name in patch);
    if (!isSearch) return this._store.set(patch);
    const state = { ...this._store.get(), ...patch };
    const results = this._resultsOf(state);
    if (results !== this._store.get().results) this._store.get().results?.abort();
    this._store.set({ ...patch, results });
  }

  _resultsOf(state) {
    const { terms, filters, options } = state;
    const picture = terms.some((term) => term.value === UPLOAD) ? this._pictures.current() : null;
    const name = `${picture ? this._pictures.currentId() : ""} ${toAddress({ terms, filters, options })}`;
    const found = this._cache.get(name) ?? createResults(this._api, state, picture);
    this._cache.delete(name);
    this._cache.set(name, found);
    if (this._cache.size > KEPT) this._cache.delete(this._cache.keys().next().value);
    return found;
  }
}
