/** What one can do in the page, whatever button or key does it. */

import { PageHistory } from "./history.js";
import { isGiven } from "./searching.js";
import { makeTerm, UPLOAD } from "./terms.js";

/**
 * Make the actions of the page. They can be passed on without the object.
 * @param {{api: object, store: object, pictures: object, t: Function, toast: Function}} parts
 */
export function createActions({ api, store, pictures, t, toast }) {
  const steps = new PageHistory({ api, store, pictures }, () => toast(t("pictureGone")));
  const go = (patch, how) => steps.go(patch, how);
  return {
    /** @param {Partial<import("./store.js").State>} patch @param {{replace?: boolean}} [how] */
    go,
    restore: () => steps.restore(),
    keepScroll: () => steps.keepScroll(),
    refresh: () => steps.refresh(),
    /** @param {string} show opens a view: "photos", "timeline", "map", "collections" or "jobs" */
    show: (show) => go({ show, view: null }),
    /** @param {number[]} ids two items to look at side by side */
    compare: (ids) => go({ show: "compare", compare: ids.slice(0, 2), view: null }),
    /** @param {number} id opens an item in the full view; from within it, in place of the former */
    open: (id) => go({ view: id }, { replace: store.get().view !== null }),
    /** Close the full view. */
    close: () => (history.state?.opened ? history.back() : go({ view: null }, { replace: true })),
    ...searchActions({ store, pictures, t, toast }, go),
    ...filterActions(store, go),
    ...selectionActions(store),
  };
}

function searchActions({ store, pictures, t, toast }, go) {
  /** @param {import("./terms.js").Term[]} terms empty for all items */
  const search = (terms, how) => {
    const { terms: before, options } = store.get();
    // What all items were sorted by is not what a search is for.
    go({ terms, options: before.length ? options : { ...options, sort: "" }, show: "photos", view: null }, how);
  };
  return {
    search,
    /** @param {number[]} ids adds items to the search: more like them, or with sign -1 less */
    like(ids, sign = 1) {
      const others = store.get().terms.filter((term) => !(term.kind === "id" && ids.includes(term.value)));
      const terms = [...others, ...ids.map((id) => makeTerm("id", id, sign))];
      if (terms.some((term) => term.sign > 0)) search(terms);
      else toast(t("lessNeedsMore"));
    },
    /** Search by a picture that is dropped, pasted or chosen. @param {File} file */
    async searchPicture(file) {
      await pictures.add(file);
      const others = store.get().terms.filter((term) => term.value !== UPLOAD);
      search([...others, makeTerm("image", UPLOAD)]);
    },
  };
}

function filterActions(store, go) {
  /** @param {Record<string, any>} patch new values by the name of the filter; an empty one ends it */
  function filter(patch, how) {
    const all = Object.entries({ ...store.get().filters, ...patch });
    const { show } = store.get();
    go({ filters: Object.fromEntries(all.filter(([, value]) => isGiven(value))), show: show === "compare" ? "photos" : show }, how);
  }
  return {
    filter,
    /** @param {string} name of a filter that is a list @param {string} value put in, or taken out */
    toggleFilter(name, value) {
      const values = store.get().filters[name] ?? [];
      filter({ [name]: values.includes(value) ? values.filter((each) => each !== value) : [...values, value] });
    },
    clearFilters: () => go({ filters: {}, options: {} }),
    /** @param {import("./store.js").State["options"]} patch */
    option: (patch) => go({ options: { ...store.get().options, ...patch } }),
  };
}

function selectionActions(store) {
  return {
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
  };
}
