/** The full view of one item: the whole picture, what is known of it, and its neighbours. */

import { createDetails } from "./details.js";
import { fill, h, icon, iconButton } from "./dom.js";
import { t } from "./i18n.js";
import { BLOCK } from "./results.js";
import { createStrip, pictureOf } from "./strip.js";
import { fileName, isText, nameOf, textOf, thumbnailOf, wordsOf } from "./tile.js";
import { createZoom } from "./zoom.js";

const LARGEST = 2048;
/** Files that few browsers show, and that may be large. */
const ODD = /\.(tiff?|hei[cf]|jp2|j2k|p[bgpn]m)$/i;
/** Files that the server does not give out as they are. */
const KEPT = /\.(svgz?|jxl|dng|cr[23]|nef|arw|raf|orf|rw2)$/i;
const PAN = 80;
const DETAILS = "clipsearch.details";
const WIDE = "(min-width: 900px)";

/**
 * Make the full view, to be put into the page; it opens when the store names an item.
 * @param {object} ctx
 * @returns {HTMLDialogElement}
 */
export function createViewer(ctx) {
  const viewer = new Viewer(ctx);
  ctx.store.subscribe((state, before) => viewer.update(state.view, before.view));
  queueMicrotask(() => viewer.update(ctx.store.get().view, null)); // once the dialog is in the page
  return viewer.dialog;
}

class Viewer {
  constructor(ctx) {
    this._ctx = ctx;
    /** Of the item among the hits; -1 for one that is not among them. */
    this._position = -1;
    this._build();
    const isOpen = matchMedia(WIDE).matches && localStorage.getItem(DETAILS) !== "closed";
    this._showDetails(isOpen);
    this.dialog.addEventListener("keydown", (event) => this._onKey(event));
    this.dialog.addEventListener("cancel", (event) => {
      event.preventDefault();
      ctx.actions.close();
    });
  }

  /** Open, change or close the view. */
  update(view, before) {
    if (view === before) return;
    if (view !== null) this._show(view);
    else if (this.dialog.open) this.dialog.close();
  }

  _build() {
    this._content = h("div", { class: "viewer-content" });
    this._previous = iconButton("left", t("previous"), () => this._move(-1), { class: "icon-button viewer-previous" });
    this._next = iconButton("right", t("next"), () => this._move(1), { class: "icon-button viewer-next" });
    this._stage = h("div", { class: "stage" }, this._content, this._previous, this._next);
    this._strip = createStrip((item, part) => this._showPicture({ ...item, position: part }));
    this._details = createDetails(this._ctx);
    this._zoom = createZoom(this._stage, {
      onSwipe: (by) => this._move(by),
      onDismiss: () => this._ctx.actions.close(),
      onZoom: (scale) => fill(this._zoomLevel, `${Math.round(scale * 100)}%`),
    });
    this.dialog = h("dialog", { class: "viewer", "aria-labelledby": "viewer-title" },
      this._buildBar(), h("div", { class: "viewer-body" }, h("div", { class: "viewer-main" }, this._stage, this._strip.element), this._details.element));
  }

  _buildBar() {
    const { actions, store } = this._ctx;
    this._title = h("h2", { class: "viewer-title", id: "viewer-title" });
    this._place = h("span", { class: "viewer-place" });
    this._zoomLevel = h("span", { class: "viewer-zoom", "aria-hidden": "true" });
    this._zoomButtons = h("div", { class: "row zoom-buttons" },
      iconButton("less", t("zoomOut"), () => this._zoom.out()), this._zoomLevel,
      iconButton("more", t("zoomIn"), () => this._zoom.in()));
    const original = t("openOriginal");
    this._original = h("a", { class: "icon-button", target: "_blank", rel: "noopener", "aria-label": original, title: original }, icon("download"));
    this._info = iconButton("info", t("details"), () => this._showDetails(!this._hasDetails()), { "aria-controls": "details" });
    return h("div", { class: "viewer-bar" },
      iconButton("close", t("close"), () => actions.close()),
      h("div", { class: "viewer-names" }, this._title, this._place), this._zoomButtons,
      h("div", { class: "viewer-likes" },
        wordButton("like", t("moreLikeThis"), () => actions.like([store.get().view])),
        wordButton("unlike", t("lessLikeThis"), () => actions.like([store.get().view], -1))),
      this._original, this._info);
  }

  async _show(id) {
    const { results } = this._ctx.store.get();
    const known = this._find(results, id);
    if (known) this._showItem(known);
    else fill(this._content);
    if (!this.dialog.open) this.dialog.showModal();
    try {
      await this._complete(id, known, results);
    } catch (problem) {
      if (this._isShown(id)) fill(this._content, h("p", { class: "empty", role: "alert" }, problem.message));
    }
  }

  /** Show all that the server knows of an item, which hits have only a part of. */
  async _complete(id, known, results) {
    const found = await this._ctx.api.get(`/v1/items/${id}`);
    if (known) {
      // What is drawn again loses what is being typed into it.
      if (this._isShown(id) && !isSame(known, found)) this._details.show({ ...known, ...found });
      if (this._isShown(id)) this._strip.show({ ...known, ...found });
      return;
    }
    await results?.load(0).catch(() => null); // the page was opened with this view
    if (!this._isShown(id)) return;
    const whole = { ...this._find(results, id), ...found };
    this._showItem(whole);
    this._strip.show(whole);
  }

  _isShown(id) {
    return this._ctx.store.get().view === id;
  }

  /** Find an item among the hits, and so its neighbours. */
  _find(results, id) {
    this._position = results?.positionOf(id) ?? -1;
    const isKnown = this._position >= 0;
    fill(this._place, isKnown ? t("placeOf", { n: this._position + 1, total: results.total }) : "");
    this._previous.disabled = !isKnown || this._position === 0;
    this._next.disabled = !isKnown || this._position >= results.total - 1;
    return isKnown ? results.at(this._position) : null;
  }

  _showItem(item) {
    const isWords = isText(item);
    fill(this._title, fileName(item));
    this._strip.show({}); // until the server has said what its parts are
    this._details.show(item);
    this._original.hidden = this._zoomButtons.hidden = isWords;
    this._stage.classList.toggle("is-words", isWords);
    if (!isWords) return this._showPicture(item);
    this._zoom.show(null);
    this._showWords(item);
  }

  /** Show at once what the grid has, and replace it by the whole text when that is there. */
  async _showWords(item) {
    const article = h("article", { class: "viewer-text", tabindex: 0 }, wordsOf(item));
    fill(this._content, article);
    const whole = await this._ctx.api.get(textOf(item), { as: "text" }).catch(() => null);
    const passage = item.part?.text;
    const at = whole && passage ? whole.indexOf(passage) : -1;
    if (at >= 0 && passage.length < whole.trim().length) {
      const mark = h("mark", {}, passage);
      fill(article, whole.slice(0, at), mark, whole.slice(at + passage.length));
      mark.scrollIntoView({ block: "center" });
    } else if (whole) fill(article, whole);
    else if (!wordsOf(item)) fill(article, t("textGone"));
  }

  /** Show at once what the grid has, and replace it by the whole picture when that is there. */
  async _showPicture(item) {
    const whole = imageOf(item);
    const reduced = `${item.thumbnail}&size=${LARGEST}`;
    this._original.href = KEPT.test(item.path) ? reduced : whole;
    const image = h("img", { class: "viewer-picture", alt: nameOf(item), src: firstOf(item), draggable: "false" });
    image.style.aspectRatio = item.width && item.height ? `${item.width} / ${item.height}` : "auto";
    image.style.setProperty("--natural", `${item.width || LARGEST}px`);
    fill(this._content, image);
    this._zoom.show(image);
    if (item.media) await image.decode().catch(() => null); // the server decodes few frames at a time
    image.src = (await loadable(isOdd(item) && !item.media ? [reduced] : [whole, reduced])) ?? image.src;
    if (this._isShown(item.id)) [1, -1].forEach((by) => this._preload(by));
  }

  _preload(by) {
    const item = this._ctx.store.get().results?.at(this._position + by);
    if (this._position >= 0 && item?.thumbnail && !item.media && !isOdd(item)) new Image().src = imageOf(item);
  }

  async _move(by) {
    const { results } = this._ctx.store.get();
    const wanted = this._position + by;
    if (this._position < 0 || wanted < 0 || wanted >= results.total) return;
    await results.load(Math.floor(wanted / BLOCK));
    const item = results.at(wanted);
    if (item) this._ctx.actions.open(item.id);
  }

  _hasDetails() {
    return !this.dialog.classList.contains("without-details");
  }

  _showDetails(isOpen) {
    this.dialog.classList.toggle("without-details", !isOpen);
    this._info.setAttribute("aria-expanded", String(isOpen));
    localStorage.setItem(DETAILS, isOpen ? "open" : "closed");
  }

  _onKey(event) {
    const { target, key } = event;
    if (target.closest("input") || event.ctrlKey || event.metaKey || event.altKey) return;
    if (key.startsWith("Arrow") && target.closest(".details, .viewer-text, .strip")) return; // they scroll
    const run = this._actionOf(key.length === 1 ? key.toLowerCase() : key);
    if (!run) return;
    event.preventDefault();
    run();
  }

  _actionOf(key) {
    const { actions, store } = this._ctx;
    const zoom = this._zoom;
    const keys = {
      ArrowLeft: () => zoom.pan(PAN, 0) || this._move(-1),
      ArrowRight: () => zoom.pan(-PAN, 0) || this._move(1),
      ArrowUp: () => zoom.pan(0, PAN),
      ArrowDown: () => zoom.pan(0, -PAN),
      "+": () => zoom.in(),
      "=": () => zoom.in(),
      "-": () => zoom.out(),
      0: () => zoom.whole(),
      i: () => this._showDetails(!this._hasDetails()),
      m: () => actions.like([store.get().view]),
      l: () => actions.like([store.get().view], -1),
    };
    return keys[key];
  }
}

/** A button of an icon and words; where there is little room the words are left out. */
function wordButton(shape, name, onclick) {
  return h("button", { type: "button", class: "button", "aria-label": name, title: name, onclick }, icon(shape), h("span", {}, name));
}

/** Whether a hit has all that is known of its item; in lists, long words are cut. */
function isSame(hit, item) {
  return ["caption", "text", "tags"].every((name) => JSON.stringify(hit[name] ?? null) === JSON.stringify(item[name] ?? null));
}

function imageOf(item) {
  const { id, content_hash: hash } = item;
  if (item.media) return pictureOf(item, "image", item.position?.index ?? 0);
  return `/v1/items/${id}/image?v=${hash.slice(0, 16)}`;
}

function firstOf(item) {
  return item.media && item.position ? `${pictureOf(item, "thumbnail", item.position.index)}&size=512` : thumbnailOf(item, 256);
}

/** Return the first address whose picture this browser can show; null if there is none. */
async function loadable(addresses) {
  for (const address of addresses) {
    const image = new Image();
    image.src = address;
    try {
      await image.decode();
      return address;
    } catch {
      // The next address has a JPEG of it.
    }
  }
  return null;
}

function isOdd({ path }) {
  return ODD.test(path) || KEPT.test(path);
}
