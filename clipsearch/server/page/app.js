/**
 * The page: puts its parts together.
 *
 * What a view gets is the context `ctx`:
 *   api       get(path), post(path, body), send(method, path, body); see api.js
 *   store     get(), set(patch), subscribe(listener); the state is described in store.js
 *   actions   what one can do; see actions.js
 *   t         words in the language of the page; see i18n.js
 *   h         makes elements; see dom.js, which has `fill`, `icon` and `iconButton` too
 *   announce  says something to screen readers
 *   toast     shows a short message
 *
 * A view is a module with `mount(ctx)`, which returns `{element, destroy()}`.
 */

import { createActions } from "./actions.js";
import { createApi, isAbort } from "./api.js";
import { h } from "./dom.js";
import { createHeader } from "./header.js";
import { loadWords, t } from "./i18n.js";
import { installKeys } from "./keys.js";
import { createMessages } from "./messages.js";
import { createNavigation } from "./navigation.js";
import { createPictures } from "./pictures.js";
import { createSelectionBar } from "./selection.js";
import { createTokenDialog, readCapabilities } from "./session.js";
import { createSide } from "./side.js";
import { createStore } from "./store.js";
import { createViews } from "./views.js";

await loadWords();
start(createContext());

function createContext() {
  const { elements, announce, toast } = createMessages();
  document.body.append(...elements);
  const pictures = createPictures();
  const store = createStore({
    terms: [], filters: {}, options: {}, show: "photos", view: null, results: null, selection: new Map(), compare: [],
    capabilities: { writable: false, needsToken: false }, isBusy: false, changes: 0, facets: null,
  });
  const api = createApi({ askToken: createTokenDialog(), onBusy: (isBusy) => store.set({ isBusy }) });
  const actions = createActions({ api, store, pictures, t, toast });
  return { api, store, actions, pictures, t, h, announce, toast };
}

function start(ctx) {
  history.scrollRestoration = "manual";
  const main = h("main", { id: "main", tabindex: "-1" });
  document.body.prepend(
    h("a", { class: "skip", href: "#main", onclick: (event) => (event.preventDefault(), main.focus()) }, t("skip")),
    createHeader(ctx),
    h("div", { class: "layout" }, h("div", { class: "side" }, createNavigation(ctx), createSide(ctx)), main),
    createSelectionBar(ctx));
  createViews(ctx, main);
  installViewer(ctx, main);
  installKeys(ctx);
  addEventListener("popstate", () => ctx.actions.restore());
  addEventListener("pagehide", () => ctx.actions.keepScroll());
  addEventListener("unhandledrejection", (event) => reportFault(ctx, event));
  ctx.actions.restore();
  learnCapabilities(ctx);
}

/** Load the full view when it is wanted, or as soon as that is likely. */
function installViewer(ctx, main) {
  let loading = null;
  const load = () => (loading ??= import("./viewer.js").then(({ createViewer }) => document.body.append(createViewer(ctx))));
  ctx.store.subscribe(({ view }) => view !== null && load());
  for (const name of ["pointerover", "focusin"]) main.addEventListener(name, load, { once: true });
}

async function learnCapabilities({ api, store }) {
  store.set({ capabilities: await readCapabilities(api) });
}

/** Whatever an action did not deal with itself is shown, rather than lost in the console. */
function reportFault({ toast }, event) {
  if (isAbort(event.reason)) event.preventDefault();
  else if (event.reason?.kind !== undefined) {
    event.preventDefault();
    toast(event.reason.message);
  }
}
