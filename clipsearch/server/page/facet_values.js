/** The values of filters, to be checked, with how many items have them. */

import { choices, h, iconButton } from "./dom.js";
import { formatDate, t } from "./i18n.js";
import { allows, orderOf } from "./searching.js";

/**
 * @typedef {{value: string, count: number}} Counted
 */

/**
 * Make the values of a filter that is a plain list.
 * @param {object} ctx
 * @param {string} filter
 * @param {Counted[]} counted
 * @param {(value: string) => string} [nameOf]
 */
export function listValues(ctx, filter, counted, nameOf = (value) => value) {
  return counted.map((each) => checkbox(ctx, filter, each, nameOf(each.value)));
}

/**
 * Make the years, each with its months where it is open.
 * @param {object} ctx
 * @param {Counted[]} months such as 2024-06, the newest first
 * @param {Set<string>} toggled has `year 2024` where that is open
 * @param {(key: string) => void} toggle
 */
export function yearValues(ctx, months, toggled, toggle) {
  const chosen = ctx.store.get().filters.months ?? [];
  return groupByYear(months).map(({ value: year, count, months: within }) => {
    const key = `year ${year}`;
    const isOpen = toggled.has(key) || chosen.some((month) => month.startsWith(`${year}-`));
    const open = iconButton(isOpen ? "down" : "right", t(isOpen ? "hideMonths" : "showMonths", { year }), () => toggle(key),
      { class: "icon-button small", "aria-expanded": String(isOpen), "data-key": key });
    const label = formatDate(year, { year: "numeric" });
    const row = h("div", { class: "facet-row" }, checkbox(ctx, "months", { value: year, count }, label), open);
    if (!isOpen) return row;
    const rows = within.map((each) => checkbox(ctx, "months", each, formatDate(each.value, { month: "long" }), { depth: 2 }));
    return h("div", { role: "group", "aria-label": label }, row, rows);
  });
}

/**
 * Make the folders as a tree, each named within the one above it.
 * @param {object} ctx
 * @param {Counted[]} folders
 */
export function folderValues(ctx, folders) {
  const sorted = [...folders].sort((a, b) => (a.value < b.value ? -1 : 1));
  return sorted.map((folder) => {
    const path = folder.value;
    const above = sorted.filter((each) => path.startsWith(`${each.value.replace(/\/$/, "")}/`) && each !== folder);
    const label = above.length ? path.slice(above.at(-1).value.length).replace(/^\//, "") : lastPart(path);
    return checkbox(ctx, "folders", folder, label, { depth: above.length, title: path });
  });
}

/**
 * Make the options of an answer, and the choice of stars.
 * @param {object} ctx
 */
export function optionValues({ store, actions }) {
  const state = store.get();
  const { options, terms, filters, show } = state;
  const isSorted = terms.length > 0 && orderOf(state) !== "relevance"; // which leaves out what is not likely
  const option = (name) => {
    const isImplied = name === "likely" && isSorted;
    const disabled = isImplied || !allows(state, name);
    const onchange = ({ target }) => actions.option({ [name]: target.checked });
    return h("label", { class: "facet" },
      h("input", { type: "checkbox", checked: isImplied || (!disabled && options[name]), disabled, "data-key": name, onchange }),
      h("span", { class: "facet-name" }, t(name)));
  };
  const stars = [1, 2, 3, 4, 5].map((n) => [n, t("stars", { n })]);
  const onchange = ({ target }) => actions.filter({ min_rating: Number(target.value) || null });
  const names = terms.length ? ["likely", "collapse", "diverse", "days"] : ["days"];
  return h("div", { class: "group" }, show === "photos" && names.map(option),
    h("select", { class: "button", "aria-label": t("rating"), "data-key": "stars", onchange }, choices([["", t("anyRating")], ...stars], filters.min_rating)));
}

function checkbox({ store, actions }, filter, { value, count }, label, { depth = 0, title = label } = {}) {
  const checked = (store.get().filters[filter] ?? []).includes(value);
  const onchange = () => actions.toggleFilter(filter, value);
  return h("label", { class: "facet", style: { "--depth": depth } },
    h("input", { type: "checkbox", checked, "data-key": `${filter} ${value}`, onchange }),
    h("span", { class: "facet-name", title }, label), h("span", { class: "facet-count" }, t("number", { n: count })));
}

function groupByYear(months) {
  const found = new Map();
  for (const month of months) {
    const year = month.value.slice(0, 4);
    const known = found.get(year) ?? { value: year, count: 0, months: [] };
    known.count += month.count;
    known.months.push(month);
    found.set(year, known);
  }
  return [...found.values()];
}

function lastPart(path) {
  return path.split("/").filter(Boolean).pop() ?? path;
}
