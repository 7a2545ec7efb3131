/** The view of two items side by side, which are zoomed and moved together, and what differs in what is known of them. */

import { isAbort } from "./api.js";
import { fill, h, icon, iconButton } from "./dom.js";
import { formatDate, t } from "./i18n.js";
import { fileName, isText, nameOf } from "./tile.js";
import { createZoom } from "./zoom.js";

const LARGEST = 2048;
const PAN = 80;

/** @param {object} ctx */
export function mount(ctx) {
  const { store, api, actions } = ctx;
  const body = h("div", { class: "view-body" });
  const back = h("button", { type: "button", class: "button", onclick: () => history.back() }, icon("left"), t("back"));
  const swap = h("button", { type: "button", class: "button", onclick: () => actions.compare([...store.get().compare].reverse()) }, t("swap"));
  const element = h("section", { class: "view compare", "aria-label": t("compare") },
    h("div", { class: "view-head" }, h("h1", {}, t("compare")), h("div", { class: "row" }, swap, back)), body);
  let abort = new AbortController();

  async function load() {
    abort.abort();
    abort = new AbortController();
    const ids = store.get().compare;
    swap.hidden = ids.length !== 2;
    if (ids.length !== 2) return fill(body, h("div", { class: "empty" }, icon("compare"), h("h2", {}, t("compareTwo")), h("p", {}, t("compareHow"))));
    try {
      const items = await Promise.all(ids.map((id) => api.get(`/v1/items/${id}`, { signal: abort.signal })));
      fill(body, pair(ctx, items), differences(items));
    } catch (problem) {
      if (!isAbort(problem)) fill(body, h("p", { class: "empty", role: "alert" }, problem.message));
    }
  }

  const unsubscribe = store.subscribe((state, before) => state.compare !== before.compare && load());
  load();
  return {
    element,
    destroy() {
      unsubscribe();
      abort.abort();
    },
  };
}

function pair(ctx, items) {
  const panes = items.map((item) => pane(ctx, item));
  const zooms = [];
  panes.forEach(({ stage }, index) => {
    const follow = (scale, x, y) => zooms[1 - index]?.follow(scale, x, y);
    zooms.push(createZoom(stage, { onSwipe() {}, onDismiss() {}, onZoom: follow }));
  });
  panes.forEach(({ image }, index) => zooms[index].show(image));
  const pan = (dx, dy) => zooms[0].pan(dx, dy);
  const keys = {
    "+": () => zooms[0].in(), "=": () => zooms[0].in(), "-": () => zooms[0].out(), 0: () => zooms[0].whole(),
    ArrowLeft: () => pan(PAN, 0), ArrowRight: () => pan(-PAN, 0), ArrowUp: () => pan(0, PAN), ArrowDown: () => pan(0, -PAN),
  };
  return h("div", { class: "pair", role: "group", "aria-label": t("compareKeys"), tabindex: "0", onkeydown: (event) => runKey(keys, event) },
    panes.map((each) => each.element),
    h("div", { class: "pair-zoom" }, iconButton("less", t("zoomOut"), () => zooms[0].out()), iconButton("more", t("zoomIn"), () => zooms[0].in())));
}

function runKey(keys, event) {
  if (event.ctrlKey || event.metaKey || !(event.key in keys)) return;
  event.preventDefault();
  keys[event.key]();
}

function pane({ actions }, item) {
  const image = isText(item) ? null : h("img", { class: "pair-picture", alt: nameOf(item), draggable: "false", src: `${item.thumbnail}&size=${LARGEST}` });
  const stage = h("div", { class: "stage" }, image ?? h("p", { class: "words" }, item.text ?? item.caption ?? ""));
  const name = h("button", { type: "button", class: "link", onclick: () => actions.open(item.id) }, fileName(item));
  return { stage, image, element: h("figure", { class: "pane" }, stage, h("figcaption", {}, name)) };
}

/** A table with a row for whatever is known of either; rows that differ are marked, and come first. */
function differences(items) {
  const known = items.map(factsOf);
  const names = [...new Set(known.flatMap((facts) => [...facts.keys()]))];
  const rows = names.map((name) => ({ name, values: known.map((facts) => facts.get(name) ?? "") }));
  const differs = ({ values }) => values[0] !== values[1];
  const sorted = [...rows.filter(differs), ...rows.filter((row) => !differs(row))];
  return h("table", { class: "facts-table" },
    h("caption", { class: "visually-hidden" }, t("differences")),
    h("thead", {}, h("tr", {}, h("td", {}), items.map((item) => h("th", { scope: "col" }, fileName(item))))),
    h("tbody", {}, sorted.map((row) => h("tr", { class: differs(row) ? "differs" : null },
      h("th", { scope: "row" }, row.name, differs(row) && h("span", { class: "visually-hidden" }, ` ${t("differs")}`)),
      row.values.map((value) => h("td", {}, value || "–"))))));
}

function factsOf(item) {
  const { taken_at: taken, camera, width, height, latitude, longitude, caption, path, key, tags = [], metadata } = item;
  const facts = [
    [t("taken"), taken && formatDate(taken, { dateStyle: "medium", timeStyle: "short" })],
    [t("camera"), camera],
    [t("size"), width && t("pixels", { width, height })],
    [t("place"), typeof latitude === "number" && `${latitude.toFixed(4)}, ${longitude.toFixed(4)}`],
    [t("caption"), caption],
    [t("tags"), tags.join(", ")],
    [t("file"), path || key],
    ...Object.entries(metadata ?? {}).map(([name, value]) => [name, typeof value === "string" ? value : JSON.stringify(value)]),
  ];
  return new Map(facts.filter(([, value]) => value));
}
