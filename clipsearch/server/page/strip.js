/** The frames of a film, or the pages of a document, below the picture. */

import { fill, h } from "./dom.js";
import { t } from "./i18n.js";

const STEPS = { ArrowLeft: -1, ArrowRight: 1, Home: -Infinity, End: Infinity };

/** @param {(item: object, part: object) => void} onPick is called for the part that is to be shown */
export function createStrip(onPick) {
  const element = h("div", { class: "strip", role: "toolbar", hidden: true });
  element.addEventListener("keydown", (event) => {
    const buttons = [...element.children];
    const at = buttons.indexOf(event.target);
    if (at < 0 || !(event.key in STEPS)) return;
    event.preventDefault();
    const next = buttons[Math.min(Math.max(at + STEPS[event.key], 0), buttons.length - 1)];
    next.focus();
    next.click();
  });

  function show(item) {
    const parts = item.parts ?? [];
    element.hidden = parts.length < 2;
    element.setAttribute("aria-label", t(item.media === "film" ? "frames" : "pagesOf"));
    fill(element, element.hidden ? null : parts.map((part) => button(item, part)));
    if (!element.hidden) choose(item.position?.index ?? parts[0].index);
  }

  function button(item, part) {
    const pick = () => {
      choose(part.index);
      onPick(item, part);
    };
    const image = h("img", { alt: "", loading: "lazy", src: `${pictureOf(item, "thumbnail", part.index)}&size=128` });
    return h("button", { type: "button", class: "strip-part", "data-part": part.index, onclick: pick }, image, h("span", {}, part.text));
  }

  function choose(index) {
    for (const each of element.children) {
      const isCurrent = Number(each.dataset.part) === index;
      each.setAttribute("aria-pressed", String(isCurrent));
      each.tabIndex = isCurrent ? 0 : -1;
      if (isCurrent) each.scrollIntoView({ block: "nearest", inline: "center" });
    }
  }

  return { element, show };
}

export function pictureOf({ id, content_hash: hash }, what, part) {
  return `/v1/items/${id}/${what}?v=${hash.slice(0, 16)}&part=${part}`;
}
