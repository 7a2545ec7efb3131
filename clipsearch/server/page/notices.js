/** What is said about an answer: doubts, warnings, problems, and that nothing was found. */

import { h, icon } from "./dom.js";
import { language, t } from "./i18n.js";
import { orderOf } from "./searching.js";

/** @param {import("./results.js").Results} results @param {object} actions */
export function notices(results, actions) {
  const doubt = results.isRanked && !results.confident && results.total > 0;
  const plain = () => actions.option({ plain: true });
  return [
    results.understood && note("info", t("understood", { text: results.understood }), " ",
      h("button", { type: "button", class: "link", onclick: plain }, t("plain"))),
    doubt && note("info", h("strong", {}, t("noConfidentMatch")), " ", t("nearestFollow")),
    ...results.warnings.map((warning) => note("warning", warning)),
  ];
}

/** @param {object} ctx */
export function nothingFound({ api, store, actions }) {
  const { terms, filters, options } = store.get();
  const isSorted = terms.length > 0 && orderOf({ terms, options }) !== "relevance";
  const isFiltered = Object.keys(filters).length > 0 || options.likely;
  if (!terms.length && !isFiltered) {
    return emptyLibrary(api, actions.refresh);
  }
  const clear = isFiltered && h("button", { type: "button", class: "button", onclick: actions.clearFilters }, t("clearFilters"));
  const best = isSorted && h("button", { type: "button", class: "button primary", onclick: () => actions.option({ sort: "" }) }, t("sort_relevance"));
  const why = isSorted ? "noConfidentMatch" : isFiltered ? "nothingFiltered" : "nothingMatches";
  return panel("search", t("countNone"), h("p", {}, t(why)), best, clear);
}

/**
 * Say what went wrong, and let one try again.
 * @param {object} ctx
 * @param {import("./api.js").Problem} problem
 * @param {() => void} retry
 */
export function problemPanel({ api }, problem, retry) {
  if (problem.kind === "empty-library") {
    return emptyLibrary(api, retry);
  }
  const detail = problem.kind === "unreachable" ? h("p", {}, t("unreachableHow")) : detailOf(problem);
  const isTheirs = problem.status >= 400 && problem.status < 429;
  const again = !isTheirs && h("button", { type: "button", class: "button primary", onclick: retry }, icon("refresh"), t("tryAgain"));
  const element = panel("warning", problem.title, detail, again);
  element.setAttribute("role", "alert");
  return element;
}

/**
 * Make what the server says of a problem, which is English: it is small in a page of another language.
 * @param {import("./api.js").Problem} problem
 */
export function detailOf({ detail }) {
  return detail && h(language === "en" ? "p" : "small", { lang: "en" }, detail);
}

/** @param {() => void} retry looks again: pictures may have been indexed since */
function emptyLibrary(api, retry) {
  const command = h("code", {}, "clipsearch index FOLDER");
  nameLibrary(api, command);
  return panel("picture", t("emptyLibrary"), h("p", {}, t("emptyLibraryHow")), command,
    h("button", { type: "button", class: "button", onclick: retry }, icon("refresh"), t("tryAgain")));
}

/** Without the library, the command may index into another one. */
async function nameLibrary(api, command) {
  const { library } = await api.get("/v1/stats").catch(() => ({}));
  if (library) command.append(` --library ${/^[\w./\\:~-]+$/.test(library) ? library : `"${library}"`}`);
}

function note(shape, ...words) {
  return h("p", { class: `note note-${shape}` }, icon(shape), h("span", {}, words));
}

function panel(shape, title, ...rest) {
  return h("div", { class: "empty" }, icon(shape), h("h2", {}, title), rest);
}
