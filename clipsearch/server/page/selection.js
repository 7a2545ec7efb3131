/** The bar at the bottom that shows how many items are selected, and what can be done with them. */

import { fill, h, iconButton } from "./dom.js";
import { t } from "./i18n.js";

/** Views that show no items to select: the bar would only lie over them. */
const WITHOUT = ["compare", "jobs"];

/** @param {object} ctx */
export function createSelectionBar(ctx) {
  const { store, actions, announce } = ctx;
  const count = h("p", { class: "selection-count" });
  const holder = h("div", { class: "selection-actions" });
  const bar = h("section", { class: "selection-bar", "aria-label": t("selection"), hidden: true },
    iconButton("close", t("clearSelection"), actions.clearSelection), count, holder);
  let mounted = null;

  store.subscribe(async ({ selection, show }, before) => {
    bar.hidden = !selection.size || WITHOUT.includes(show);
    if (selection === before.selection) return;
    document.body.classList.toggle("is-selecting", selection.size > 0);
    const text = t("selected", { n: selection.size });
    fill(count, text);
    announce(text);
    if (!selection.size || mounted) return;
    mounted = import("./selection_actions.js").catch(() => null);
    const module = await mounted;
    if (module) fill(holder, module.mount(ctx).element);
  });
  return bar;
}
