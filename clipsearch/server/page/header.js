/** The top of the page: its name, the search box, the menu. */

import { h } from "./dom.js";
import { t } from "./i18n.js";
import { createMenu } from "./menu.js";
import { createSearchBox } from "./searchbox.js";

/** @param {object} ctx */
export function createHeader(ctx) {
  return h("header", { class: "header" },
    h("a", { class: "brand", href: "/", "aria-label": t("home"), onclick: (event) => goHome(event, ctx) },
      h("img", { src: "/page/icon.svg", alt: "", width: 28, height: 28 }), h("span", {}, "clipsearch")),
    createSearchBox(ctx), createMenu(ctx));
}

function goHome(event, { actions }) {
  if (event.ctrlKey || event.metaKey || event.shiftKey) return;
  event.preventDefault();
  actions.go({ terms: [], filters: {}, options: {}, show: "photos", view: null });
}
