/** The frames of a film, or the pages of a document, below the picture. */

import { fill, h } from "./dom.js";
import { t } from "./i18n.js";

const ATTEMPTS = 4;
const RETRY_AFTER = 1500;
const STEPS = { ArrowLeft: -1, ArrowRight: 1, Home: -Infinity, End: Infinity };

/** @param {(item: object, part: object) => void} onPick is called for the part that is to be shown */
export function createStrip(onPick) {
  const element = h("div", { class: "strip", role: "toolbar", hidden: true });
  let last = Promise.resolve();
  // One after the other, once they are near: the server decodes few at a time, and refuses others.
  const near = new IntersectionObserver((entries) => {
    for (const { target } of entries.filter((entry) => entry.isIntersecting)) {
      near.unobserve(target);
      last = last.then(() => load(target));
    }
  }, { root: element, rootMargin: "0px 400px" });
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
    near.disconnect();
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
    const image = h("img", { alt: "", "data-src": `${pictureOf(item, "thumbnail", part.index)}&size=128` });
    near.observe(image);
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

/** Load a picture, unless it is no longer shown; a busy server gets more tries. */
async function load(image) {
  for (let attempt = 0; attempt < ATTEMPTS && image.isConnected; attempt += 1) {
    image.src = image.dataset.src;
    if (await image.decode().then(() => true, () => false)) return;
    await new Promise((resolve) => setTimeout(resolve, RETRY_AFTER));
  }
}

export function pictureOf({ id, content_hash: hash }, what, part) {
  return `/v1/items/${id}/${what}?v=${hash.slice(0, 16)}&part=${part}`;
}
