/** Which view fills the main part of the page. All but the photographs are loaded when they are first opened. */

import { fill, h } from "./dom.js";
import { t } from "./i18n.js";
import * as photos from "./photos.js";

const LOADERS = {
  photos: async () => photos,
  timeline: () => import("./timeline.js"),
  map: () => import("./map.js"),
  collections: () => import("./collections.js"),
  compare: () => import("./compare.js"),
  jobs: () => import("./jobs.js"),
};

/**
 * Keep the main part showing the view that the store names.
 * @param {object} ctx
 * @param {HTMLElement} main
 */
export function createViews(ctx, main) {
  let mounted = null;

  async function show(name) {
    const module = await LOADERS[name]().catch(() => null);
    if (name !== ctx.store.get().show) return;
    mounted?.destroy();
    mounted = module ? module.mount(ctx) : { element: h("p", { class: "empty" }, t("viewMissing")), destroy() {} };
    fill(main, mounted.element);
  }

  ctx.store.subscribe((state, before) => {
    if (!mounted || state.show !== before.show) show(state.show);
    document.title = titleOf(state);
  });
}

function titleOf({ show, terms }) {
  const words = show === "photos" ? terms.map(({ value }) => value).join(" ") : t(show);
  return words ? `${words} · clipsearch` : "clipsearch";
}
