/** Which request answers a search, and what of its answer the page needs. */

import { Results } from "./results.js";
import { isPlain, write } from "./terms.js";

/** Hits below it are left out when only likely ones are wanted. */
const LIKELY = 0.5;

/** Options that are on or off, and what can be sorted by beside relevance. */
export const OPTIONS = ["likely", "collapse", "plain", "diverse", "days"];
export const SORTS = ["taken", "name", "size", "rating"];
const NEEDED = { diverse: "relevance", days: "taken" };

/** @param {{terms: object[], options: object}} state @returns {string} what it is sorted by */
export function orderOf({ terms, options }) {
  return options.sort || (terms.length ? "relevance" : "taken");
}

/** @param {object} state @param {string} option @returns {boolean} whether the order of the state allows an option */
export function allows(state, option) {
  const order = orderOf(state);
  return (NEEDED[option] ?? order) === order;
}

/**
 * Make the results of a state of the page; nothing is loaded yet.
 * @param {ReturnType<import("./api.js").createApi>} api
 * @param {{terms: import("./terms.js").Term[], filters: object, options: object}} state
 * @param {Blob | null} picture what a term `image:upload` stands for
 */
export function createResults(api, state, picture) {
  const { terms, options } = state;
  const filters = toFilters(state.filters);
  const sort = orderOf(state);
  if (!terms.length) return new Results(find(api, filters, sort), { sort });
  const common = {
    filters, sort, diverse: Boolean(options.diverse) && allows(state, "diverse"),
    collapse: Boolean(options.collapse), min_confidence: options.likely ? LIKELY : null,
  };
  const isLikely = options.likely || sort !== "relevance";
  const about = { sort, isRanked: true, isLikely, isWhole: !isLikely && !options.collapse && terms.every(({ kind }) => kind !== "query") };
  return new Results(rank(api, terms, common, picture, !options.plain), about);
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

function find(api, filters, sort) {
  return async (offset, limit, signal) => {
    const { items, total, warnings } = await api.post("/v1/find", { filters, sort, limit, offset }, { signal });
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
  return isPlain(terms) && terms[0].kind === "text" ? { text: terms[0].value, understand } : { query: write(terms) };
}

function toForm(picture, terms, options) {
  const form = new FormData();
  form.set("image", picture);
  form.set("options", JSON.stringify(options));
  if (terms.length > 1 || terms[0].sign < 0) form.set("query", write(terms));
  return form;
}
