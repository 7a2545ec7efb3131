/** The filters with their counts: at the side, or on a narrow screen as a sheet. */

import { fill, h, iconButton } from "./dom.js";
import { folderValues, listValues, optionValues, yearValues } from "./facet_values.js";
import { followFacets } from "./facets.js";
import { t } from "./i18n.js";

const NARROW = "(max-width: 899px)";
/** So many values of a group are shown until one asks for more. */
const FEW = 6;
/** Views that show other things than what the filters allow. */
const UNFILTERED = ["compare", "jobs", "collections"];
const SHOWN = ["facets", "options", "terms", "show"];

/** @param {object} ctx */
export function createSide(ctx) {
  followFacets(ctx);
  return new Side(ctx).element;
}

class Side {
  constructor(ctx) {
    this._ctx = ctx;
    /** Years whose months are shown, groups that are shown whole, and those that are closed. */
    this._toggled = new Set();
    this._body = h("div", { class: "filters-body" });
    const close = iconButton("close", t("close"), () => this.element.hidePopover());
    this.element = h("aside", { id: "filters", class: "filters", "aria-label": t("filters") },
      h("div", { class: "row between sheet-head" }, h("h2", {}, t("filters")), close), this._body);
    this._becomeSheet();
    ctx.store.subscribe((state, before) => {
      if (SHOWN.some((name) => state[name] !== before[name])) this._draw();
      this.element.classList.toggle("is-useless", UNFILTERED.includes(state.show));
    });
  }

  _becomeSheet() {
    const narrow = matchMedia(NARROW);
    const place = () => (narrow.matches ? this.element.setAttribute("popover", "auto") : this.element.removeAttribute("popover"));
    narrow.addEventListener("change", place);
    place();
  }

  /** Draw all again; what had the focus has it afterwards. */
  _draw() {
    const focused = this._body.contains(document.activeElement) ? document.activeElement.dataset.key : null;
    fill(this._body, optionValues(this._ctx), this._groups());
    if (focused) this._body.querySelector(`[data-key="${CSS.escape(focused)}"]`)?.focus();
  }

  _groups() {
    const { facets, filters } = this._ctx.store.get();
    if (!facets) return null;
    const kinds = facets.modalities.length > 1 || filters.types ? facets.modalities : [];
    const kindName = (kind) => t(kind === "image" ? "pictures" : "texts");
    return [
      this._group("kind", t("kind"), listValues(this._ctx, "types", kinds, kindName)),
      this._group("dates", t("dates"), yearValues(this._ctx, facets.months, this._toggled, (key) => this._toggle(key))),
      this._group("folders", t("folders"), folderValues(this._ctx, facets.folders)),
      this._group("cameras", t("cameras"), listValues(this._ctx, "cameras", facets.cameras)),
      this._group("tags", t("tags"), listValues(this._ctx, "tags", facets.tags)),
    ];
  }

  _group(key, title, values) {
    if (!values.length) return null;
    const all = `all ${key}`;
    const isWhole = this._toggled.has(all) || values.length <= FEW + 2;
    const shown = values.filter((value, index) => isWhole || index < FEW || value.querySelector("input:checked"));
    const label = this._toggled.has(all) ? t("showFewer") : t("showAll", { n: values.length });
    const more = values.length > FEW + 2 &&
      h("button", { type: "button", class: "link", "data-key": all, onclick: () => this._toggle(all) }, label);
    return this._foldable(`closed ${key}`, h("summary", {}, h("h3", {}, title)), shown, more);
  }

  _foldable(key, ...children) {
    const details = h("details", { class: "group", open: !this._toggled.has(key) }, children);
    details.addEventListener("toggle", () => (details.open ? this._toggled.delete(key) : this._toggled.add(key)));
    return details;
  }

  _toggle(key) {
    if (!this._toggled.delete(key)) this._toggled.add(key);
    this._draw();
  }
}
