/** The view of the months: how many items each has, as bars that filter. */

import { isAbort } from "./api.js";
import { fill, h } from "./dom.js";
import { formatDate, t } from "./i18n.js";
import { chosenMonths, filterOf, listYears, toggle } from "./timeline_months.js";
import { toFilters } from "./searching.js";

const MOST = 1000;
/** A month with an item is seen, however few it has beside others. */
const LEAST_PERCENT = 4;

/** @param {object} ctx */
export function mount(ctx) {
  const { store, actions, api, announce } = ctx;
  const head = h("div", { class: "view-head" });
  const body = h("div", { class: "view-body years", onkeydown: (event) => move(event, body) });
  const hint = h("p", { class: "muted" }, t("timelineHint"));
  const element = h("section", { class: "view timeline", "aria-label": t("timeline") }, head, hint, body);
  let abort = new AbortController();
  let counts = new Map();
  let anchor = null;
  let undated = 0;

  /** Count without the dates that are chosen: one sees what else there is to choose. */
  async function load() {
    abort.abort();
    abort = new AbortController();
    const { months, after, before, ...others } = store.get().filters;
    try {
      const facets = await api.post("/v1/facets", { filters: toFilters(others), limit: MOST }, { signal: abort.signal });
      counts = new Map(facets.months.map(({ value, count }) => [value, count]));
      undated = facets.total - facets.months.reduce((sum, { count }) => sum + count, 0);
      draw();
    } catch (problem) {
      if (!isAbort(problem)) fill(body, h("p", { class: "empty", role: "alert" }, problem.message));
    }
  }

  function choose(month, isRange) {
    const range = isRange && anchor ? [anchor, month] : null;
    if (!range) anchor = month;
    const patch = range ? filterOf(range, counts) : toggle(store.get().filters, month);
    actions.filter(patch);
    const chosen = chosenMonths(store.get().filters, counts);
    announce(t("monthsChosen", { n: chosen.size }));
  }

  function draw() {
    const focused = body.contains(document.activeElement) ? document.activeElement.dataset.month : null;
    const chosen = chosenMonths(store.get().filters, counts);
    const most = Math.max(1, ...counts.values());
    const years = listYears(counts);
    fill(body, years.length ? years.map((year) => yearPart(year, { counts, chosen, most, choose })) : h("p", { class: "empty" }, t("noDates")));
    const first = body.querySelector("[aria-pressed=true]") ?? body.querySelector("[data-month]");
    first?.setAttribute("tabindex", "0");
    if (focused) focusMonth(body, focused);
    drawHead(chosen);
  }

  function drawHead(chosen) {
    const n = [...chosen].reduce((sum, month) => sum + (counts.get(month) ?? 0), 0);
    fill(head, h("h1", {}, t("timeline")), undated > 0 && h("p", { class: "muted" }, t("undated", { n: undated })),
      chosen.size > 0 && h("div", { class: "row" },
        h("button", { type: "button", class: "link", onclick: () => actions.filter({ months: null, after: null, before: null }) }, t("allMonths")),
        h("button", { type: "button", class: "button primary", onclick: () => actions.show("photos") }, t("showItems", { n }))));
  }

  const unsubscribe = store.subscribe((state, before) => {
    if (state.filters === before.filters) return;
    if (counts.size) draw();
    load();
  });
  load();
  return {
    element,
    destroy() {
      unsubscribe();
      abort.abort();
    },
  };
}

function yearPart(year, { counts, chosen, most, choose }) {
  const months = Array.from({ length: 12 }, (_, index) => `${year}-${String(index + 1).padStart(2, "0")}`);
  const sum = months.reduce((total, month) => total + (counts.get(month) ?? 0), 0);
  return h("section", { class: "year", "aria-label": year },
    h("h2", {}, formatDate(year, { year: "numeric" }), " ", h("span", { class: "muted" }, t("number", { n: sum }))),
    h("div", { class: "months" }, months.map((month) => bar(month, counts.get(month) ?? 0, { chosen, most, choose }))));
}

function bar(month, count, { chosen, most, choose }) {
  const label = t("monthOf", { month: formatDate(month, { month: "long", year: "numeric" }), count: t("itemCount", { n: count }) });
  const height = count ? Math.max(LEAST_PERCENT, (100 * count) / most) : 0;
  const inner = [
    h("span", { class: "bar-space" }, h("span", { class: "bar", style: { height: `${height}%` } })),
    h("span", { class: "bar-name", "aria-hidden": "true" }, formatDate(month, { month: "narrow" })),
  ];
  if (!count) return h("span", { class: "month is-empty", "aria-hidden": "true" }, inner);
  return h("button", {
    type: "button", class: "month", "data-month": month, "aria-label": label, title: label, "aria-pressed": String(chosen.has(month)), tabindex: -1,
    onclick: (event) => choose(month, event.shiftKey),
  }, inner);
}

/** Arrows go along the months that have items: by one, or up and down by a year. */
function move(event, body) {
  const months = [...body.querySelectorAll("[data-month]")];
  const at = months.indexOf(event.target.closest("[data-month]"));
  if (at < 0) return;
  const { month } = months[at].dataset;
  const rows = { ArrowUp: -1, ArrowDown: 1 };
  const places = { ArrowLeft: at - 1, ArrowRight: at + 1, Home: 0, End: months.length - 1 };
  const next = event.key in rows ? inRow(months, at, rows[event.key], month) : months[places[event.key]];
  if (!next) return;
  event.preventDefault();
  focusMonth(body, next.dataset.month);
}

/** The nearest month of the year that is shown above or below. */
function inRow(months, at, by, month) {
  const year = month.slice(0, 4);
  const others = by < 0 ? months.slice(0, at).reverse() : months.slice(at);
  const found = others.find((each) => each.dataset.month.slice(0, 4) !== year)?.dataset.month.slice(0, 4);
  const row = months.filter((each) => each.dataset.month.startsWith(`${found}-`));
  const wanted = Number(month.slice(5));
  const distance = (each) => Math.abs(Number(each.dataset.month.slice(5)) - wanted);
  return row.sort((a, b) => distance(a) - distance(b))[0];
}

function focusMonth(body, month) {
  const found = body.querySelector(`[data-month="${CSS.escape(month)}"]`);
  if (!found) return;
  for (const each of body.querySelectorAll("[tabindex='0']")) each.setAttribute("tabindex", "-1");
  found.setAttribute("tabindex", "0");
  found.focus();
}
