/** A term of the search as a chip: what it is, its sign, its weight, and how to remove it. */

import { h, icon } from "./dom.js";
import { t } from "./i18n.js";
import { UPLOAD } from "./terms.js";

const WEIGHTS = [0.5, 1, 2, 3];

/**
 * Make a chip. Within it + and - set the sign, the arrows up and down the weight, and Delete removes it.
 * @param {{store: object, actions: object, pictures: object}} ctx
 * @param {import("./terms.js").Term} term
 * @param {number} index of the term in the search
 * @param {() => void} onRemoved called when it was removed, to move the focus
 */
export function createChip({ store, actions, pictures }, term, index, onRemoved) {
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
    picture(term, pictures) ?? h("span", { class: "chip-name" }, name),
    button("weight", `×${term.weight}`, t("weightOf", { name, weight: term.weight }),
      () => change({ weight: WEIGHTS.find((each) => each > term.weight) ?? WEIGHTS[0] }, ".chip-weight")),
    button("remove", icon("close"), t("removeTerm", { name }), remove));
}

function nameOf({ kind, value }) {
  if (kind === "id") return t("itemNumber", { id: String(value) });
  return value === UPLOAD && kind === "image" ? t("yourPicture") : String(value);
}

function picture({ kind, value }, pictures) {
  const source = kind === "id" ? `/v1/items/${value}/thumbnail?size=256` : kind === "image" && value === UPLOAD && pictures.url();
  if (!source) return null;
  const image = h("img", { class: "chip-picture", src: source, alt: nameOf({ kind, value }) });
  // A text of the library, or a picture that this browser cannot show, has its name instead.
  image.addEventListener("error", () => image.replaceWith(h("span", { class: "chip-name" }, nameOf({ kind, value }))));
  return image;
}
