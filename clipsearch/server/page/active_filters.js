/** The filters that are on, as chips that take them off. */

import { fill, h, icon } from "./dom.js";
import { formatDate, t } from "./i18n.js";
import { allows, isGiven, OPTIONS } from "./searching.js";

/** @param {{store: object, actions: object}} ctx */
export function createActiveFilters({ store, actions }) {
  const element = h("div", { class: "active-filters", role: "group", "aria-label": t("activeFilters") });

  function chip(label, remove) {
    const name = t("removeFilter", { name: label });
    return h("button", { type: "button", class: "filter-chip", "aria-label": name, title: name, onclick: remove }, h("span", {}, label), icon("close"));
  }

  function chipsOf([name, value]) {
    if (!isGiven(value)) return [];
    if (Array.isArray(value) && name !== "box") {
      return value.map((each) => chip(labelOf(name, each), () => actions.toggleFilter(name, each)));
    }
    return [chip(labelOf(name, value), () => actions.filter({ [name]: null }))];
  }

  function update() {
    const state = store.get();
    const { filters, options } = state;
    const chips = Object.entries(filters).flatMap(chipsOf);
    for (const name of OPTIONS) if (options[name] && allows(state, name)) chips.push(chip(t(name), () => actions.option({ [name]: false })));
    const clear = chips.length > 1 && h("button", { type: "button", class: "link", onclick: actions.clearFilters }, t("clearFilters"));
    fill(element, chips, clear);
    element.hidden = !chips.length;
  }

  const unsubscribe = store.subscribe((state, before) => {
    if (["filters", "options", "terms"].some((name) => state[name] !== before[name])) update();
  });
  update();
  return { element, destroy: unsubscribe };
}

function labelOf(name, value) {
  switch (name) {
    case "months": return formatDate(value, value.length > 4 ? { month: "short", year: "numeric" } : { year: "numeric" });
    case "types": return { image: t("pictures"), text: t("texts") }[value] ?? value;
    case "folders": return value.split("/").filter(Boolean).pop() ?? value;
    case "min_rating": return t("stars", { n: value });
    case "box": case "near": return t("area");
    case "after": return t("afterDate", { date: value });
    case "before": return t("beforeDate", { date: value });
    default: return typeof value === "string" ? value : t("filterNamed", { name });
  }
}
