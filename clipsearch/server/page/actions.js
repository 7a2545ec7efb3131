/** What one can do in the page, whatever button or key does it. Each action changes the store and the address. */

import { fromAddress, toAddress } from "./address.js";
import { createResults } from "./searching.js";
import { makeTerm, UPLOAD } from "./terms.js";

const KEPT = 6;

/**
 * Make the actions of the page.
 * @param {{api: object, store: object, pictures: object, t: Function, toast: Function}} parts
 */
export function createActions({ api, store, pictures, t, toast }) {
  const cache = new Map();

  /** Change the state, and the address: as a new entry of the history, or in place of the present one. */
  function go(patch, { replace = false } = {}) {
    const next = { ...store.get(), ...patch };
    const address = toAddress(next);
    const state = { picture: pictures.currentId(), opened: !replace && next.view !== null, scroll: 0 };
    if (replace) history.replaceState({ ...history.state, picture: state.picture, ...(patch.terms && { scroll: 0 }) }, "", address);
    else {
      keepScroll();
      history.pushState(state, "", address);
    }
    apply(patch);
  }

  function apply(patch) {
    const isSearch = ["terms", "filters", "options"].some((name) => name in patch);
    if (isSearch) store.get().results?.abort();
    store.set(isSearch ? { ...patch, results: resultsOf({ ...store.get(), ...patch }) } : patch);
  }

  function resultsOf(state) {
    const picture = state.terms.some((term) => term.value === UPLOAD) ? pictures.current() : null;
    const key = toAddress({ terms: state.terms, filters: state.filters, options: state.options });
    const name = `${picture ? pictures.currentId() : ""} ${key}`;
    const found = cache.get(name) ?? createResults(api, state, picture);
    cache.delete(name);
    cache.set(name, found);
    if (cache.size > KEPT) cache.delete(cache.keys().next().value);
    return found;
  }

  /** Show what the address says: at the start, and after back or forward. */
  function restore() {
    const found = fromAddress(location.search);
    const usable = pictures.use(history.state?.picture);
    if (!usable && found.terms.some((term) => term.value === UPLOAD)) {
      found.terms = found.terms.filter((term) => term.value !== UPLOAD);
      history.replaceState(history.state, "", toAddress(found));
      toast(t("pictureGone"));
    }
    const shown = store.get();
    const isSame = shown.results && toAddress({ ...found, view: null }) === toAddress({ ...shown, view: null });
    apply(isSame && usable ? { view: found.view } : found);
  }

  /** Remember how far the page is scrolled, for when one comes back to this entry of the history. */
  function keepScroll() {
    history.replaceState({ ...history.state, scroll: window.scrollY }, "");
  }

  const actions = {
    go,
    restore,
    keepScroll,
    /** @param {import("./terms.js").Term[]} terms empty for all items */
    search: (terms, how) => go({ terms, show: "photos", view: null }, how),
    /** @param {number[]} ids adds items to the search: more like them, or with sign -1 less */
    like(ids, sign = 1) {
      const { terms } = store.get();
      const others = terms.filter((term) => !(term.kind === "id" && ids.includes(term.value)));
      const added = [...others, ...ids.map((id) => makeTerm("id", id, sign))];
      if (!added.some((term) => term.sign > 0)) return toast(t("lessNeedsMore"));
      return actions.search(added);
    },
    /** Search by a picture that is dropped, pasted or chosen. @param {File} file */
    async searchPicture(file) {
      await pictures.add(file);
      const others = store.get().terms.filter((term) => term.value !== UPLOAD);
      actions.search([...others, makeTerm("image", UPLOAD)]);
    },
    /** @param {Record<string, any>} patch new values by the name of the filter; an empty one ends it */
    filter(patch, how) {
      const filters = { ...store.get().filters, ...patch };
      for (const [name, value] of Object.entries(filters)) {
        if (value === null || value === "" || (Array.isArray(value) && !value.length)) delete filters[name];
      }
      const { show } = store.get();
      go({ filters, show: show === "compare" ? "photos" : show }, how);
    },
    /** @param {string} name of a filter that is a list @param {string} value put in, or taken out */
    toggleFilter(name, value) {
      const values = store.get().filters[name] ?? [];
      actions.filter({ [name]: values.includes(value) ? values.filter((each) => each !== value) : [...values, value] });
    },
    clearFilters: () => go({ filters: {}, options: {} }),
    /** @param {{likely?: boolean, collapse?: boolean}} patch */
    option: (patch) => go({ options: { ...store.get().options, ...patch } }),
    /** @param {string} show opens a view: "photos", "timeline", "map", "collections" or "jobs" */
    show: (show) => go({ show, view: null }),
    /** @param {number[]} ids two items to look at side by side */
    compare: (ids) => go({ show: "compare", compare: ids.slice(0, 2), view: null }),
    /** @param {number} id opens an item in the full view; from within it, in place of the former */
    open: (id) => go({ view: id }, { replace: store.get().view !== null }),
    /** Close the full view. */
    close() {
      if (history.state?.opened) history.back();
      else go({ view: null }, { replace: true });
    },
    /** @param {object[]} items as the API gives them @param {boolean} on select them, or no longer */
    select(items, on) {
      const selection = new Map(store.get().selection);
      for (const item of items) {
        if (on) selection.set(item.id, item);
        else selection.delete(item.id);
      }
      store.set({ selection });
    },
    clearSelection: () => store.set({ selection: new Map() }),
    /** Ask the server for everything again, after the library changed. */
    refresh() {
      cache.clear();
      const { terms, filters, options } = store.get();
      apply({ terms, filters: { ...filters }, options });
    },
  };
  return actions;
}
