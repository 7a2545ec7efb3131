/** The view of the collections: named sets of items that are kept in the library. */

import { isAbort } from "./api.js";
import { askSure, askText } from "./dialogs.js";
import { fill, h, icon, iconButton } from "./dom.js";
import { t } from "./i18n.js";

/** @param {object} ctx */
export function mount(ctx) {
  const { store, api } = ctx;
  const head = h("div", { class: "view-head" });
  const body = h("div", { class: "view-body" });
  const element = h("section", { class: "view", "aria-label": t("collections") }, head, body);
  const abort = new AbortController();

  async function load() {
    try {
      draw(await api.get("/v1/collections", { signal: abort.signal }));
    } catch (problem) {
      if (!isAbort(problem)) fill(body, h("p", { class: "empty", role: "alert" }, problem.message));
    }
  }

  function draw(collections) {
    const { writable } = store.get().capabilities;
    fill(head, h("h1", {}, t("collections")),
      writable && h("button", { type: "button", class: "button", onclick: () => create(ctx, load) }, icon("more"), t("newCollection")));
    if (!collections.length) fill(body, empty(writable));
    else fill(body, h("ul", { class: "cards" }, collections.map((each) => card(ctx, each, load))));
  }

  const unsubscribe = store.subscribe((state, before) => state.capabilities !== before.capabilities && load());
  fill(head, h("h1", {}, t("collections")));
  load();
  return {
    element,
    destroy() {
      unsubscribe();
      abort.abort();
    },
  };
}

function empty(writable) {
  return h("div", { class: "empty" }, icon("stack"), h("h2", {}, t("noCollections")), h("p", {}, t(writable ? "noCollectionsHow" : "noCollectionsReadOnly")));
}

function card(ctx, { name, count, cover }, reload) {
  const picture = cover ? h("img", { alt: "", loading: "lazy", src: `/v1/items/${cover}/thumbnail?size=512` }) : icon("stack");
  const change = ctx.store.get().capabilities.writable && h("div", { class: "card-buttons" },
    iconButton("edit", t("renameCollection", { name }), () => rename(ctx, name, reload)),
    iconButton("trash", t("deleteCollection", { name }), () => remove(ctx, name, reload)));
  return h("li", { class: "collection" },
    h("button", { type: "button", class: "collection-open", onclick: () => open(ctx, name) },
      h("span", { class: "card-cover" }, picture), h("span", { class: "collection-name" }, name), h("span", { class: "muted" }, t("itemCount", { n: count }))),
    change);
}

function addressOf(name) {
  return `/v1/collections/${encodeURIComponent(name)}`;
}

function open({ actions }, name) {
  actions.go({ terms: [], filters: { collections: [name] }, show: "photos", view: null });
}

function create(ctx, reload) {
  const ids = [...ctx.store.get().selection.keys()];
  const asked = { title: t("newCollection"), label: t("collectionName"), submit: ids.length ? t("createWith", { n: ids.length }) : t("create") };
  askText(asked, async (name) => {
    await ctx.api.send("PUT", addressOf(name), { ids });
    ctx.actions.clearSelection();
    await reload();
  });
}

function rename(ctx, name, reload) {
  const asked = { title: t("renameCollection", { name }), label: t("collectionName"), submit: t("rename"), value: name };
  askText(asked, async (next) => {
    if (next !== name) await ctx.api.send("PATCH", addressOf(name), { name: next });
    await reload();
  });
}

function remove(ctx, name, reload) {
  askSure({ title: t("deleteCollection", { name }), text: t("deleteCollectionText"), submit: t("delete") }, async () => {
    await ctx.api.send("DELETE", addressOf(name));
    await reload();
  });
}
