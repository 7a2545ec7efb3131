/** A term of the search as a chip: what it is, its sign, its weight, and how to remove it. */

import { fill, h, icon } from "./dom.js";
import { t } from "./i18n.js";
import { UPLOAD } from "./terms.js";
import { nameOf as nameOfItem, thumbnailOf } from "./tile.js";

const WEIGHTS = [0.5, 1, 2, 3];
const PICTURE = 44;

/** Items that are terms, by id: a chip shows what its item is. */
const items = new Map();

/**
 * Make a chip. Within it + and - set the sign, the arrows up and down the weight, and Delete removes it.
 * @param {{api: object, store: object, actions: object, pictures: object}} ctx
 * @param {import("./terms.js").Term} term
 * @param {number} index of the term in the search
 * @param {() => void} onRemoved called when it was removed, to move the focus
 */
export function createChip({ api, store, actions, pictures }, term, index, onRemoved) {
  const name = nameOf(term);
  const isWanted = term.sign > 0;

  function change(patch, focused) {
    const terms = store.get().terms.map((each, place) => (place === index ? { ...each, ...patch } : each));
    actions.search(terms);
    document.querySelectorAll(".chips .chip")[index]?.querySelector(focused)?.focus();
  }

  function remove() {
    actions.search(store.get().terms.filter((_, place) => place !== index));
    onRemoved();
  }

  function step(by) {
    const next = by > 0 ? WEIGHTS.find((each) => each > term.weight) : WEIGHTS.findLast((each) => each < term.weight);
    if (next) change({ weight: next }, ".chip-weight");
  }

  function onkeydown(event) {
    const keys = {
      "+": () => change({ sign: 1 }, ".chip-sign"),
      "-": () => change({ sign: -1 }, ".chip-sign"),
      ArrowUp: () => step(1),
      ArrowDown: () => step(-1),
      Delete: remove,
      Backspace: remove,
    };
    if (!keys[event.key] || event.ctrlKey || event.metaKey) return;
    event.preventDefault();
    event.stopPropagation();
    keys[event.key]();
  }

  const label = t(isWanted ? "termWanted" : "termUnwanted", { name, weight: term.weight });
  const button = (kind, text, label, onclick) =>
    h("button", { type: "button", class: `chip-${kind}`, "aria-label": label, title: label, onclick }, text);
  return h("div", { class: isWanted ? "chip" : "chip unwanted", role: "group", "aria-label": label, onkeydown },
    button("sign", isWanted ? "+" : "−", t(isWanted ? "makeUnwanted" : "makeWanted", { name }), () => change({ sign: -term.sign }, ".chip-sign")),
    content(term, name, api, pictures),
    button("weight", `×${term.weight}`, t("weightOf", { name, weight: term.weight }),
      () => change({ weight: WEIGHTS.find((each) => each > term.weight) ?? WEIGHTS[0] }, ".chip-weight")),
    button("remove", icon("close"), t("removeTerm", { name }), remove));
}

function nameOf({ kind, value }) {
  if (kind === "id") return items.has(value) ? nameOfItem(items.get(value)) : t("itemNumber", { id: String(value) });
  return value === UPLOAD && kind === "image" ? t("yourPicture") : String(value);
}

/** The words of a term, or its picture. */
function content({ kind, value }, name, api, pictures) {
  const words = h("span", { class: "chip-name" }, name);
  if (kind === "image" && value === UPLOAD && pictures.url()) return picture(pictures.url(), name, words);
  if (kind !== "id") return words;
  const holder = h("span", { class: "chip-item" }, words);
  showItem(api, value, holder);
  return holder;
}

async function showItem(api, id, holder) {
  if (!items.has(id)) items.set(id, await api.get(`/v1/items/${id}`).catch(() => ({ key: t("itemNumber", { id: String(id) }) })));
  const item = items.get(id);
  const words = h("span", { class: "chip-name" }, nameOfItem(item));
  fill(holder, item.thumbnail ? picture(thumbnailOf(item, PICTURE), nameOfItem(item), words) : words);
}

/** A picture, or words for one that this browser cannot show. */
function picture(src, alt, words) {
  const image = h("img", { class: "chip-picture", src, alt, title: alt });
  image.addEventListener("error", () => image.replaceWith(words));
  return image;
}
