/** The state of the page in its address, so that back, forward and bookmarks work. It never holds a token. */

import { OPTIONS, SORTS } from "./searching.js";
import { hasSyntax, isGrouped, isPlain, makeTerm, parse, write } from "./terms.js";

const SHOWN = new Set(["timeline", "map", "collections", "compare", "jobs"]);

/**
 * Write the address of a state.
 * @param {Partial<import("./store.js").State>} state
 * @returns {string}
 */
export function toAddress({ terms = [], filters = {}, options = {}, show = "photos", view = null, compare = [] }) {
  const params = new URLSearchParams();
  if (terms.length) params.set("q", isPlain(terms) && !hasSyntax(terms[0].value) ? terms[0].value : write(terms));
  if (Object.keys(filters).length) params.set("filters", JSON.stringify(filters));
  for (const name of Object.keys(options)) if (options[name]) params.set(name, options[name] === true ? "1" : options[name]);
  if (show !== "photos") params.set("show", show);
  if (show === "compare") params.set("ids", compare.join(","));
  if (view !== null) params.set("view", String(view));
  const written = params.toString();
  return written ? `/?${written}` : "/";
}

/**
 * Read an address; what cannot be used is left out.
 * @param {string} search the part of the address from `?`
 */
export function fromAddress(search) {
  const params = new URLSearchParams(search);
  const show = params.get("show");
  return {
    terms: readTerms(params.get("q") ?? ""),
    filters: readFilters(params.get("filters")),
    options: { ...Object.fromEntries(OPTIONS.map((name) => [name, params.has(name)])), sort: SORTS.find((sort) => sort === params.get("sort")) },
    show: SHOWN.has(show) ? show : "photos",
    view: readId(params.get("view")),
    compare: (params.get("ids") ?? "").split(",").map(readId).filter(Boolean).slice(0, 2),
  };
}

function readTerms(text) {
  if (!text.trim()) return [];
  return (hasSyntax(text) ? parse(text) : null) ?? [makeTerm(isGrouped(text) ? "query" : "text", text)];
}

function readFilters(text) {
  try {
    const found = JSON.parse(text ?? "{}");
    return found && typeof found === "object" && !Array.isArray(found) ? found : {};
  } catch {
    return {};
  }
}

function readId(text) {
  const id = Number(text);
  return Number.isSafeInteger(id) && id > 0 ? id : null;
}
