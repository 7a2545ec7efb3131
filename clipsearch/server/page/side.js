/** The filters with their counts: at the side, or on a narrow screen as a sheet. */

import { fill, h, iconButton } from "./dom.js";
import { followFacets } from "./facets.js";
import { formatDate, t } from "./i18n.js";

const NARROW = "(max-width: 899px)";
/** So many values of a group are shown until one asks for more. */
const FEW = 6;

/** @param {object} ctx */
export function createSide(ctx) {
  const { store, actions } = ctx;
  const expanded = new Set();
  const body = h("div", { class: "filters-body" });
  const close = iconButton("close", t("close"), () => aside.hidePopover(), { class: "icon-button sheet-close" });
  const aside = h("aside", { id: "filters", class: "filters", "aria-label": t("filters") },
    h("div", { class: "row between sheet-head" }, h("h2", {}, t("filters")), close), body);

  function toggle(key) {
    if (!expanded.delete(key)) expanded.add(key);
    draw();
  }

  /** Draw all again; what had the focus has it afterwards. */
  function draw() {
    const focused = body.contains(document.activeElement) ? document.activeElement.dataset.key : null;
    fill(body, drawOptions(ctx), drawGroups());
    if (focused) body.querySelector(`[data-key="${CSS.escape(focused)}"]`)?.focus();
  }

  const narrow = matchMedia(NARROW);
  const place = () => (narrow.matches ? aside.setAttribute("popover", "auto") : aside.removeAttribute("popover"));
  narrow.addEventListener("change", place);
  place();
  followFacets(ctx);
  store.subscribe((state, before) => {
    if (["facets", "options", "terms", "show"].some((name) => state[name] !== before[name])) draw();
    aside.classList.toggle("is-useless", ["compare", "jobs", "collections"].includes(state.show));
  });
  return aside;

  function drawGroups() {
    const facets = store.get().facets;
    if (!facets) return null;
    return [
      group("kind", t("kind"), facets.modalities.length > 1 || store.get().filters.types ? facets.modalities.map(kindValue) : []),
      group("dates", t("dates"), years(facets.months).map(yearValue)),
      group("folders", t("folders"), folderValues(facets.folders)),
      group("cameras", t("cameras"), facets.cameras.map((each) => listValue("cameras", each))),
      group("tags", t("tags"), facets.tags.map((each) => listValue("tags", each))),
    ];
  }

  function group(key, title, values) {
    if (!values.length) return null;
    const isOpen = !expanded.has(`closed ${key}`);
    const all = expanded.has(`all ${key}`) || values.length <= FEW + 2;
    const shown = all ? values : values.filter((value, index) => index < FEW || value.querySelector("input:checked"));
    const more = values.length > FEW + 2 && h("button", { type: "button", class: "link", "data-key": `all ${key}`, onclick: () => toggle(`all ${key}`) },
      all ? t("showFewer") : t("showAll", { n: values.length }));
    const details = h("details", { class: "group", open: isOpen }, h("summary", {}, h("h3", {}, title)), shown, more);
    details.addEventListener("toggle", () => {
      if (details.open) expanded.delete(`closed ${key}`);
      else expanded.add(`closed ${key}`);
    });
    return details;
  }

  function value(filter, chosen, label, count, props = {}) {
    const isOn = (store.get().filters[filter] ?? []).includes(chosen);
    return h("label", { class: "facet", ...props },
      h("input", { type: "checkbox", checked: isOn, "data-key": `${filter} ${chosen}`, onchange: () => actions.toggleFilter(filter, chosen) }),
      h("span", { class: "facet-name", title: props.title ?? label }, label), h("span", { class: "facet-count" }, t("number", { n: count })));
  }

  function listValue(filter, { value: name, count }) {
    return value(filter, name, name, count);
  }

  function kindValue({ value: kind, count }) {
    return value("types", kind, t(kind === "image" ? "pictures" : "texts"), count);
  }

  function yearValue({ year, count, months }) {
    const key = `year ${year}`;
    const chosen = store.get().filters.months ?? [];
    const isOpen = expanded.has(key) || chosen.some((month) => month.startsWith(`${year}-`));
    const open = iconButton(isOpen ? "down" : "right", t(isOpen ? "hideMonths" : "showMonths", { year }), () => toggle(key),
      { class: "icon-button small", "aria-expanded": String(isOpen), "data-key": key });
    const row = h("div", { class: "facet-row" }, value("months", year, formatDate(year, { year: "numeric" }), count), open);
    if (!isOpen) return row;
    const rows = months.map((each) => value("months", each.value, formatDate(each.value, { month: "long" }), each.count, { class: "facet indented" }));
    return h("div", { role: "group", "aria-label": year }, row, rows);
  }

  function folderValues(folders) {
    const sorted = [...folders].sort((a, b) => (a.value < b.value ? -1 : 1));
    return sorted.map(({ value: path, count }) => {
      const parents = sorted.filter((each) => path.startsWith(each.value.replace(/\/$/, "") + "/"));
      const parent = parents.at(-1);
      const label = parent ? path.slice(parent.value.length).replace(/^\//, "") : path.split("/").filter(Boolean).pop() ?? path;
      return value("folders", path, label, count, { title: path, style: { "--depth": parents.length } });
    });
  }
}

function drawOptions({ store, actions }) {
  const { options, terms, results } = store.get();
  if (!terms.length || !results) return null;
  const option = (name, label) => h("label", { class: "facet" },
    h("input", { type: "checkbox", checked: options[name] ?? false, "data-key": name, onchange: (event) => actions.option({ [name]: event.target.checked }) }),
    h("span", { class: "facet-name" }, label));
  return h("div", { class: "group" }, option("likely", t("likely")), option("collapse", t("collapse")));
}

/** @param {{value: string, count: number}[]} months such as 2024-06 */
function years(months) {
  const found = new Map();
  for (const month of months) {
    const year = month.value.slice(0, 4);
    const known = found.get(year) ?? { year, count: 0, months: [] };
    known.count += month.count;
    known.months.push(month);
    found.set(year, known);
  }
  return [...found.values()];
}
