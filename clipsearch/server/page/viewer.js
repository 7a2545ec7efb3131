/** The full view of one item: the whole picture, what is known of it, and its neighbours. */

import { createDetails } from "./details.js";
import { fill, h, iconButton } from "./dom.js";
import { t } from "./i18n.js";
import { fileName, isText, nameOf, thumbnailOf } from "./tile.js";
import { createZoom } from "./zoom.js";

const LARGEST = 2048;
const PAN = 80;
/** Files that few browsers show, and that may be large. */
const ODD = /\.(tiff?|hei[cf]|jp2|j2k|p[bgpn]m|dng|cr[23]|nef|arw|raf|orf|rw2)$/i;
const DETAILS = "clipsearch.details";

/** @param {object} ctx */
export function createViewer(ctx) {
  const { store, actions, api } = ctx;
  const title = h("h2", { class: "viewer-title", id: "viewer-title" });
  const place = h("span", { class: "viewer-place" });
  const content = h("div", { class: "viewer-content" });
  const zoomLevel = h("span", { class: "viewer-zoom", "aria-hidden": "true" });
  const previous = iconButton("left", t("previous"), () => move(-1), { class: "icon-button viewer-previous" });
  const next = iconButton("right", t("next"), () => move(1), { class: "icon-button viewer-next" });
  const stage = h("div", { class: "stage" }, content, previous, next);
  const details = createDetails(ctx);
  const info = iconButton("info", t("details"), () => toggleDetails(), { "aria-controls": "details" });
  const original = h("a", { class: "icon-button", target: "_blank", rel: "noopener", "aria-label": t("openOriginal"), title: t("openOriginal") });
  original.append(...iconButton("download", "", () => {}).children);
  const zoom = createZoom(stage, { onSwipe: move, onDismiss: actions.close, onZoom: showZoom });
  const zoomButtons = h("div", { class: "row zoom-buttons" },
    iconButton("less", t("zoomOut"), zoom.out), zoomLevel, iconButton("more", t("zoomIn"), zoom.in));
  const dialog = h("dialog", { class: "viewer", "aria-labelledby": "viewer-title" },
    h("div", { class: "viewer-bar" },
      iconButton("close", t("close"), actions.close), h("div", { class: "viewer-names" }, title, place),
      zoomButtons,
      iconButton("like", t("moreLikeThis"), () => actions.like([store.get().view])),
      iconButton("unlike", t("lessLikeThis"), () => actions.like([store.get().view], -1)),
      original, info),
    h("div", { class: "viewer-body" }, stage, details.element));
  let position = -1;

  async function show(id) {
    const { results } = store.get();
    let known = find(results, id);
    if (known) showItem(known);
    else fill(content);
    if (!dialog.open) dialog.showModal();
    try {
      const found = await api.get(`/v1/items/${id}`);
      if (!known) await results?.load(0).catch(() => null); // the page was opened with this view
      if (store.get().view !== id) return;
      const isNew = !known;
      known ??= find(results, id);
      if (isNew) showItem({ ...known, ...found });
      else details.show({ ...known, ...found });
    } catch (problem) {
      if (store.get().view === id) fill(content, h("p", { class: "empty", role: "alert" }, problem.message));
    }
  }

  /** Find an item among the hits, and so its neighbours. */
  function find(results, id) {
    position = results?.positionOf(id) ?? -1;
    showPlace();
    return position >= 0 ? results.at(position) : null;
  }

  function showItem(item) {
    fill(title, fileName(item));
    details.show(item);
    original.hidden = isText(item);
    zoomButtons.hidden = isText(item);
    stage.classList.toggle("is-words", isText(item));
    if (isText(item)) {
      zoom.show(null);
      fill(content, h("article", { class: "viewer-text", tabindex: 0 }, item.part?.text || item.text || item.caption || ""));
      return;
    }
    original.href = imageOf(item);
    showPicture(item);
  }

  /** Show at once what the grid has, and replace it by the whole picture when that is there. */
  async function showPicture(item) {
    const image = h("img", { class: "viewer-picture", alt: nameOf(item), src: thumbnailOf(item, 256), draggable: "false" });
    image.style.aspectRatio = item.width && item.height ? `${item.width} / ${item.height}` : "auto";
    image.style.setProperty("--natural", `${item.width || LARGEST}px`);
    fill(content, image);
    zoom.show(image);
    const reduced = `${item.thumbnail}&size=${LARGEST}`;
    image.src = (await loadable(ODD.test(item.path) ? [reduced] : [imageOf(item), reduced])) ?? image.src;
    if (store.get().view === item.id) [1, -1].forEach(preload);
  }

  function preload(by) {
    const item = store.get().results?.at(position + by);
    if (position >= 0 && item?.thumbnail) new Image().src = imageOf(item);
  }

  function showPlace() {
    const { results } = store.get();
    const isKnown = position >= 0;
    fill(place, isKnown ? t("placeOf", { n: position + 1, total: results.total }) : "");
    previous.disabled = !isKnown || position === 0;
    next.disabled = !isKnown || position >= results.total - 1;
  }

  async function move(by) {
    const { results } = store.get();
    const wanted = position + by;
    if (position < 0 || wanted < 0 || wanted >= results.total) return;
    await results.load(Math.floor(wanted / 100));
    const item = results.at(wanted);
    if (item) actions.open(item.id);
  }

  function showZoom(scale) {
    fill(zoomLevel, `${Math.round(scale * 100)}%`);
  }

  function toggleDetails(isOpen = dialog.classList.contains("without-details")) {
    dialog.classList.toggle("without-details", !isOpen);
    info.setAttribute("aria-expanded", String(isOpen));
    localStorage.setItem(DETAILS, isOpen ? "open" : "closed");
  }

  dialog.addEventListener("cancel", (event) => {
    event.preventDefault();
    actions.close();
  });
  dialog.addEventListener("keydown", (event) => {
    if (event.target.closest("input") || event.ctrlKey || event.metaKey || event.altKey) return;
    const id = store.get().view;
    const keys = {
      ArrowLeft: () => zoom.pan(PAN, 0) || move(-1),
      ArrowRight: () => zoom.pan(-PAN, 0) || move(1),
      ArrowUp: () => zoom.pan(0, PAN),
      ArrowDown: () => zoom.pan(0, -PAN),
      "+": zoom.in,
      "=": zoom.in,
      "-": zoom.out,
      0: zoom.whole,
      i: () => toggleDetails(),
      m: () => actions.like([id]),
      l: () => actions.like([id], -1),
    };
    const run = keys[event.key.length === 1 ? event.key.toLowerCase() : event.key];
    if (!run || (event.target.closest(".details, .viewer-text") && event.key.startsWith("Arrow"))) return;
    event.preventDefault();
    run();
  });

  const isWide = matchMedia("(min-width: 900px)").matches;
  toggleDetails(isWide && localStorage.getItem(DETAILS) !== "closed");
  function update({ view }, before) {
    if (view === before.view) return;
    if (view !== null) show(view);
    else if (dialog.open) dialog.close();
  }

  store.subscribe(update);
  queueMicrotask(() => update(store.get(), { view: null })); // once the dialog is in the page
  return dialog;
}

function imageOf({ id, content_hash: hash }) {
  return `/v1/items/${id}/image?v=${hash.slice(0, 16)}`;
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
      // Such as HEIC or TIFF: the next address has a JPEG of it.
    }
  }
  return null;
}
