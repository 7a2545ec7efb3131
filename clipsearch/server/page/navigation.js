/** The views of the page, to choose from: at the side, or on a narrow screen at the bottom. */

import { h, icon } from "./dom.js";
import { t } from "./i18n.js";

const VIEWS = { photos: "grid", timeline: "calendar", map: "map", collections: "stack" };

/** @param {{store: object, actions: object}} ctx */
export function createNavigation({ store, actions }) {
  const links = Object.entries(VIEWS).map(([name, shape]) =>
    h("a", { href: name === "photos" ? "/" : `/?show=${name}`, class: "nav-link", onclick: (event) => follow(event, name) },
      icon(shape), h("span", {}, t(name))));

  /** Links can be opened in a new tab; a plain click stays within the page. */
  function follow(event, name) {
    if (event.ctrlKey || event.metaKey || event.shiftKey) return;
    event.preventDefault();
    actions.show(name);
  }

  function update({ show }) {
    Object.keys(VIEWS).forEach((name, index) => {
      if (name === show) links[index].setAttribute("aria-current", "page");
      else links[index].removeAttribute("aria-current");
    });
  }

  store.subscribe((state, before) => state.show !== before.show && update(state));
  update(store.get());
  return h("nav", { class: "nav", "aria-label": t("views") }, links);
}
