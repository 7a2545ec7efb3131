/** Which request answers a search, and what of its answer the page needs. */

import { Results } from "./results.js";
import { write } from "./terms.js";

/** Hits below it are left out when only likely ones are wanted. */
const LIKELY = 0.5;

/**
 * Make the results of a state of the page; nothing is loaded yet.
 * @param {ReturnType<import("./api.js").createApi>} api
 * @param {{terms: import("./terms.js").Term[], filters: object, options: object}} state
 * @param {Blob | null} picture what a term `image:upload` stands for
 */
export function createResults(api, state, picture) {
  const { terms, options } = state;
  const filters = toFilters(state.filters);
  if (!terms.length) return new Results(find(api, filters), false);
  const common = { filters, collapse: options.collapse || false, min_confidence: options.likely ? LIKELY : null };
  return new Results(rank(api, terms, common, picture, !options.plain), true);
}

/**
 * Write filters as the API takes them: several months become a choice.
 * @param {Record<string, any>} filters
 * @returns {object | null} null where all is allowed
 */
export function toFilters({ months = [], ...rest }) {
  const given = Object.fromEntries(Object.entries(rest).filter(([, value]) => isGiven(value)));
  if (months.length === 1 && !given.after && !given.before) given.during = months[0];
  else if (months.length) given.all_of = [{ any_of: months.map((during) => ({ during })) }];
  return Object.keys(given).length ? given : null;
}

/** @param {unknown} value of a filter */
export function isGiven(value) {
  return Array.isArray(value) ? value.length > 0 : value !== null && value !== undefined && value !== "";
}

function find(api, filters) {
  return async (offset, limit, signal) => {
    const { items, total, warnings } = await api.post("/v1/find", { filters, limit, offset }, { signal });
    return { items, total, warnings, hasMore: offset + items.length < total };
  };
}

function rank(api, terms, common, picture, understand) {
  const query = toQuery(terms, understand);
  return async (offset, k, signal, explain) => {
    const options = { ...common, k, offset, ...(explain && { explain }) };
    const found = await (picture
      ? api.post("/v1/search/image", toForm(picture, terms, options), { signal })
      : api.post("/v1/search", { ...query, ...options }, { signal }));
    return { ...found, items: found.hits, total: null, hasMore: found.next_offset !== null };
  };
}

/** Plain words are searched for as words too, which composed queries are not. */
function toQuery(terms, understand) {
  const [first] = terms;
  const isPlain = terms.length === 1 && first.kind === "text" && first.sign > 0 && first.weight === 1;
  return isPlain ? { text: first.value, understand } : { query: write(terms) };
}

function toForm(picture, terms, options) {
  const form = new FormData();
  form.set("image", picture);
  form.set("options", JSON.stringify(options));
  if (terms.length > 1 || terms[0].sign < 0) form.set("query", write(terms));
  return form;
}
