/** How many items each value of a filter has. */

import { isAbort } from "./api.js";
import { isGiven, toFilters } from "./searching.js";

const MOST = 200;

/** The filter that each group of counts belongs to. */
export const GROUPS = { months: "months", folders: "folders", cameras: "cameras", tags: "tags", modalities: "types" };

/**
 * Keep `store.facets` right: `{filters, total, months, folders, cameras, tags, modalities}`.
 * @param {{api: object, store: object, actions: object}} ctx
 */
export function followFacets({ api, store }) {
  let abort = new AbortController();

  async function load(filters) {
    abort.abort();
    abort = new AbortController();
    try {
      const facets = await count(api, filters, abort.signal);
      if (store.get().filters === filters) store.set({ facets: { ...facets, filters } });
    } catch (error) {
      // The grid says what is wrong with the server or the filters.
      if (!isAbort(error)) store.set({ facets: null });
    }
  }

  store.subscribe((state, before) => {
    if (state.filters !== before.filters || state.changes !== before.changes) load(state.filters);
  });
}

/** Count with all filters; but within a group that has one, without it, so that one sees what else there is to choose. */
async function count(api, filters, signal) {
  const ask = (wanted) => api.post("/v1/facets", { filters: toFilters(wanted), limit: MOST }, { signal });
  const chosen = Object.entries(GROUPS).filter(([, name]) => isGiven(filters[name]));
  const [all, ...others] = await Promise.all([ask(filters), ...chosen.map(([, name]) => ask({ ...filters, [name]: [] }))]);
  chosen.forEach(([group], index) => (all[group] = others[index][group]));
  return all;
}
