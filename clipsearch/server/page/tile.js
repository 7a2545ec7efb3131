/** One item in the grid: a picture, or the words of a text. */

import { h, icon } from "./dom.js";
import { language, t } from "./i18n.js";

const SIZES = [256, 512, 1024];
/** A busy server is asked again; after that the name stands for a picture. */
const TRIES = 3;
const RETRY_AFTER = 2500;
/** Characters of a text in its tile. */
const CARD = 400;
const percent = new Intl.NumberFormat(language, { style: "percent" });

/**
 * Make the cell of an item. What is clicked within it, the grid finds out by `data-do`.
 * @param {object} item
 * @param {{position: number, column: number, width: number, height: number, href: string, isSelected: boolean}} place
 */
export function createTile(item, { position, column, width, height, href, isSelected }) {
  const name = nameOf(item);
  return h("div", {
    class: isText(item) ? "tile tile-text" : "tile", role: "gridcell", tabindex: -1, "data-position": position, "data-id": item.id,
    "aria-label": labelOf(item, name), "aria-selected": String(isSelected), "aria-colindex": column + 1, style: { width: `${width}px` },
  },
    h("a", { class: "tile-open", "data-do": "open", href, tabindex: -1, draggable: "false" },
      isText(item) ? card(item) : picture(item, name, Math.max(width, height))),
    button("check", "check", t("select")), copies(item));
}

/**
 * Add what is seen only while a pointer or the focus is on a tile: hundreds of tiles do without.
 * @param {HTMLElement} tile
 * @param {object} item
 */
export function addExtras(tile, item) {
  if (tile.querySelector(".tile-actions")) return;
  const actions = h("div", { class: "tile-actions" }, button("like", "like", t("moreLikeThis")), button("unlike", "unlike", t("lessLikeThis")));
  tile.append(...[actions, confidenceBar(item)].filter(Boolean));
}

function button(what, shape, label) {
  return h("button", { type: "button", class: `tile-${what}`, "data-do": what, tabindex: -1, "aria-label": label, title: label }, icon(shape));
}

/** @param {object} item @returns {string} its caption, or the name of its file */
export function nameOf(item) {
  return item.caption?.split("\n")[0] || fileName(item);
}

/** @param {object} item */
export function fileName({ path, key }) {
  return (path || key).split(/[/\\]/).pop();
}

/** @param {object} item */
export function isText({ item_modality: ofHit, modality }) {
  return (ofHit ?? modality) === "text";
}

/** @param {object} item a text @returns {string} its words, as far as the list has them */
export function wordsOf(item) {
  return item.part?.text || item.text || item.caption || "";
}

/** @param {object} item a text @returns {string} the address of its words */
export function textOf({ id, content_hash: hash }) {
  return `/v1/items/${id}/text?v=${hash.slice(0, 16)}`;
}

/** @param {number} confidence from 0 to 1 */
export function formatPercent(confidence) {
  return percent.format(confidence);
}

/**
 * Return the address of a thumbnail in one of a few sizes, which the browser keeps.
 * @param {object} item
 * @param {number} side pixels of the page that the longer side takes
 */
export function thumbnailOf(item, side) {
  const wanted = side * Math.min(2, devicePixelRatio);
  // A little less than is shown looks the same, and is often there already.
  const size = SIZES.find((each) => each * 1.15 >= wanted) ?? SIZES.at(-1);
  return `${item.thumbnail}&size=${size}`;
}

function labelOf(item, name) {
  const sure = typeof item.confidence === "number" ? t("confidenceOf", { percent: formatPercent(item.confidence) }) : null;
  const more = item.also?.length ? t("copies", { n: item.also.length }) : null;
  return [isText(item) ? t("textItem") : null, name, sure, more].filter(Boolean).join(", ");
}

function picture(item, name, side) {
  const image = h("img", { class: "tile-picture", alt: name, decoding: "async", draggable: "false", "data-src": thumbnailOf(item, side) });
  image.addEventListener("load", () => image.classList.add("is-loaded"));
  let tries = TRIES;
  image.addEventListener("error", () => {
    tries -= 1;
    const { src } = image;
    if (tries) setTimeout(() => (image.src = src), RETRY_AFTER);
    else image.replaceWith(h("span", { class: "tile-missing" }, icon("picture"), name));
  });
  return image;
}

/** Show the picture or the words of a tile; before that, one that is scrolled past costs the server nothing. */
export function showContent(tile) {
  const words = tile.querySelector("p[data-src]");
  if (words) fillWords(words);
  const image = tile.querySelector("img[data-src]");
  if (!image) return;
  image.src = image.dataset.src;
  image.removeAttribute("data-src");
  if (image.complete) image.classList.add("is-loaded");
}

async function fillWords(words) {
  const { src } = words.dataset;
  words.removeAttribute("data-src");
  const response = await fetch(`${src}&length=${CARD}`).catch(() => null);
  if (response?.ok) words.textContent = (await response.text()).trim();
}

function card(item) {
  const words = wordsOf(item);
  return h("div", { class: "card" }, h("p", { class: "card-words", "data-src": words ? null : textOf(item) }, words.trim().slice(0, CARD)),
    h("p", { class: "card-name" }, icon("text"), h("span", {}, fileName(item))));
}

/** How many copies a hit stands for, where copies are shown once. */
function copies({ also }) {
  return also?.length > 0 && h("span", { class: "tile-copies", title: t("copies", { n: also.length }) }, `+${also.length}`);
}

function confidenceBar({ confidence }) {
  if (typeof confidence !== "number") return null;
  return h("div", { class: "tile-confidence", "aria-hidden": "true" },
    h("span", { class: "meter" }, h("span", { style: { width: `${confidence * 100}%` } })), formatPercent(confidence));
}
