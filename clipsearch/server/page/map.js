/** The view of places: pictures on a map that needs nothing from elsewhere. */

import { isAbort } from "./api.js";
import { fill, h, icon, iconButton } from "./dom.js";
import { t } from "./i18n.js";
import { createClusters } from "./map_clusters.js";
import { drawMap, makeLand } from "./map_drawing.js";
import { useMap } from "./map_input.js";
import { bounded, boxOf, fitted, MAX_SCALE, moved, xOf, yOf, zoomed } from "./map_view.js";
import { toFilters } from "./searching.js";

const WAIT = 150;
const ANIMATION = 250;
/** Pixels of a cell, of which each has one cluster at most. */
const CELL = 72;
const MOST_CELLS = 64;
const STEP = 1.6;
/** Opening a cluster shows the part of the map around it this much larger. */
const CLOSER = 4;

/** @param {object} ctx */
export function mount(ctx) {
  const map = new PlacesMap(ctx);
  return { element: map.element, destroy: () => map.destroy() };
}

class PlacesMap {
  constructor(ctx) {
    this._ctx = ctx;
    this._view = { x: 0.5, y: 0.42, scale: 1, width: 1, height: 1 };
    this._land = null;
    this._abort = new AbortController();
    this._isFitted = false;
    this._build();
    this._observer = new ResizeObserver(() => this._resize());
    this._observer.observe(this._area);
    this._unsubscribe = ctx.store.subscribe((state, before) => {
      if (state.filters !== before.filters) this._load();
    });
    this._theme = matchMedia("(prefers-color-scheme: dark)");
    this._redraw = () => this._draw();
    this._theme.addEventListener("change", this._redraw);
    this._themes = new MutationObserver(this._redraw);
    this._themes.observe(document.documentElement, { attributeFilter: ["data-theme"] });
    this._loadLand();
  }

  destroy() {
    this._observer.disconnect();
    this._themes.disconnect();
    this._theme.removeEventListener("change", this._redraw);
    this._unsubscribe();
    this._abort.abort();
    clearTimeout(this._timer);
    cancelAnimationFrame(this._frame);
  }

  _build() {
    this._canvas = h("canvas", { class: "map-canvas", "aria-hidden": "true" });
    this._clusters = createClusters((cluster) => this._open(cluster));
    this._area = h("div", { class: "map-area", role: "group", "aria-label": t("mapArea"), tabindex: "0" }, this._canvas, this._clusters.element);
    this._said = h("p", { class: "map-said", role: "status" });
    this._use = h("button", { type: "button", class: "button primary", hidden: true, onclick: () => this._useArea(boxOf(this._view)) });
    const buttons = h("div", { class: "map-buttons" },
      iconButton("more", t("zoomIn"), () => this._go(zoomed(this._view, STEP))),
      iconButton("less", t("zoomOut"), () => this._go(zoomed(this._view, 1 / STEP))),
      iconButton("map", t("wholeMap"), () => this._fit()));
    this._empty = h("div", { class: "empty", hidden: true });
    this._parts = [this._area, buttons, h("div", { class: "map-foot" }, this._said, this._use)];
    this.element = h("section", { class: "view map", "aria-label": t("map") },
      h("h1", { class: "visually-hidden" }, t("map")), this._empty, this._parts);
    useMap(this._area, {
      move: (dx, dy) => this._show(moved(this._view, dx, dy)),
      zoom: (factor, px, py) => this._show(zoomed(this._view, factor, px, py)),
    });
  }

  async _loadLand() {
    // The map is of use without the outline too.
    const land = await fetch("/page/land.json").then((found) => found.json()).catch(() => null);
    if (land) this._land = makeLand(land);
    this._draw();
  }

  _resize() {
    const { clientWidth: width, clientHeight: height } = this._area;
    if (!width || !height || (width === this._view.width && height === this._view.height)) return; // hidden, or shown again
    this._show(bounded({ ...this._view, width, height }));
  }

  _show(view) {
    cancelAnimationFrame(this._flight);
    this._set(view);
  }

  _set(view) {
    this._view = view;
    this._draw();
    clearTimeout(this._timer);
    this._timer = setTimeout(() => this._load(), WAIT);
  }

  /** Fly to a view, unless one wants no motion. */
  _go(target) {
    cancelAnimationFrame(this._flight);
    if (matchMedia("(prefers-reduced-motion: reduce)").matches) return this._set(target);
    const [from, start] = [this._view, performance.now()];
    const near = target.x + Math.round(from.x - target.x);
    const step = (now) => {
      const at = Math.min(1, (now - start) / ANIMATION);
      const eased = 1 - (1 - at) ** 3;
      const scale = from.scale * (target.scale / from.scale) ** eased;
      // In the course of zooming the middle moves as far as the scale has come.
      const share = from.scale === target.scale ? eased : (1 / from.scale - 1 / scale) / (1 / from.scale - 1 / target.scale);
      this._set(at === 1 ? target : bounded({ ...target, scale, x: from.x + (near - from.x) * share, y: from.y + (target.y - from.y) * share }));
      if (at < 1) this._flight = requestAnimationFrame(step);
    };
    this._flight = requestAnimationFrame(step);
  }

  _draw() {
    cancelAnimationFrame(this._frame);
    this._frame = requestAnimationFrame(() => {
      drawMap(this._canvas, this._view, this._land);
      this._clusters.place(this._view);
    });
  }

  async _load() {
    this._abort.abort();
    this._abort = new AbortController();
    const { api, store } = this._ctx;
    const filters = toFilters(store.get().filters) ?? {};
    const box = this._isFitted ? boxOf(this._view) : null;
    // The box of the view says how fine the clusters are; that of the filter holds beside it.
    const within = box ? { ...filters, box, all_of: [...(filters.all_of ?? []), ...(filters.box ? [{ box: filters.box }] : [])] } : filters;
    const cells = Math.min(MOST_CELLS, Math.ceil(Math.max(this._view.width, this._view.height) / CELL));
    try {
      const found = await api.post("/v1/places", { filters: within, cells }, { signal: this._abort.signal });
      this._take(found, Object.keys(filters).length > 0);
    } catch (problem) {
      if (!isAbort(problem)) fill(this._said, problem.message);
    }
  }

  _take({ total, clusters, bounds }, isFiltered) {
    this._bounds ??= bounds;
    this._empty.hidden = Boolean(this._bounds);
    fill(this._empty, icon("map"), h("h2", {}, t(isFiltered ? "nothingFiltered" : "noPlaces")), h("p", {}, t("noPlacesHow")));
    for (const part of this._parts) part.hidden = !this._bounds;
    if (!this._bounds) return;
    this._clusters.show(clusters, this._view);
    fill(this._said, total ? t("placesShown", { n: total }) : t("noPlacesHere"));
    this._use.hidden = !total;
    fill(this._use, t("showItems", { n: total }));
    if (this._isFitted) return;
    this._isFitted = true;
    this._fit();
  }

  _fit() {
    if (this._bounds) this._go(fitted(this._view, this._bounds));
  }

  /** Show one picture, or come closer; pictures that lie at one place are listed. */
  _open({ id, count, latitude, longitude }) {
    if (count === 1) return this._ctx.actions.open(id);
    const { scale } = this._view;
    if (scale < MAX_SCALE) return this._go(bounded({ ...this._view, x: xOf(longitude), y: yOf(latitude), scale: scale * CLOSER }));
    const margin = 1e-4;
    return this._useArea([latitude - margin, longitude - margin, latitude + margin, longitude + margin]);
  }

  _useArea(box) {
    const { actions, store } = this._ctx;
    const filters = { ...store.get().filters };
    if (box) filters.box = box;
    actions.go({ filters, show: "photos", view: null });
  }
}
