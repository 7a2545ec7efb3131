/** What can be done with the selected items. */

import { copyText } from "./clipboard.js";
import { askText } from "./dialogs.js";
import { fill, h, icon } from "./dom.js";
import { t } from "./i18n.js";

/** As many as one archive, or one search by items, takes. */
const MOST_FILES = 1000;
const MOST_LIKE = 20;

/** @param {object} ctx */
export function mount(ctx) {
  const { store } = ctx;
  const element = h("div", { class: "selection-buttons" });

  function draw() {
    const { selection, capabilities, filters } = store.get();
    const count = selection.size;
    const opened = filters.collections?.length === 1 ? filters.collections[0] : null;
    fill(element,
      button("like", t("likeThese"), () => likeThese(ctx), count <= MOST_LIKE, t("atMost", { n: MOST_LIKE })),
      button("compare", t("compare"), () => ctx.actions.compare(ids(ctx)), count === 2, t("compareTwo")),
      button("copy", t("copyPaths"), () => copyPaths(ctx)),
      button("download", t("download"), (event) => download(ctx, event.currentTarget), count <= MOST_FILES, t("atMost", { n: MOST_FILES })),
      capabilities.writable && button("tag", t("addTags"), () => changeTags(ctx, "add")),
      capabilities.writable && tagsOf(ctx).length > 0 && button("close", t("removeTags"), () => changeTags(ctx, "remove")),
      capabilities.writable && button("stack", t("addToCollection"), () => collect(ctx)),
      capabilities.writable && opened && button("less", t("removeFromCollection", { name: opened }), () => leave(ctx, opened)));
  }

  const unsubscribe = store.subscribe((state, before) => {
    if (["selection", "capabilities", "filters"].some((name) => state[name] !== before[name])) draw();
  });
  draw();
  return { element, destroy: unsubscribe };
}

function button(shape, label, onclick, isPossible = true, otherwise = label) {
  return h("button", { type: "button", class: "button action", title: isPossible ? label : otherwise, disabled: !isPossible, onclick }, icon(shape), h("span", {}, label));
}

function ids({ store }) {
  return [...store.get().selection.keys()];
}

function tagsOf({ store }) {
  return [...new Set([...store.get().selection.values()].flatMap((item) => item.tags ?? []))].sort();
}

function likeThese(ctx) {
  const wanted = ids(ctx);
  ctx.actions.clearSelection();
  ctx.actions.like(wanted);
}

async function copyPaths({ store, toast }) {
  const paths = [...store.get().selection.values()].map((item) => item.path || item.key);
  toast((await copyText(paths.join("\n"))) ? t("pathsCopied", { n: paths.length }) : t("copyFailed"));
}

/** The archive is fetched, not linked to: the server makes it for a POST, which no other site can send. */
async function download(ctx, pressed) {
  pressed.disabled = true;
  ctx.toast(t("downloadStarts", { n: ctx.store.get().selection.size }));
  try {
    const blob = await ctx.api.post("/v1/download", { ids: ids(ctx) }, { as: "blob" });
    const url = URL.createObjectURL(blob);
    h("a", { href: url, download: `photos-${new Date().toISOString().slice(0, 10)}.zip` }).click();
    setTimeout(() => URL.revokeObjectURL(url), 60_000);
  } finally {
    pressed.disabled = false;
  }
}

function changeTags(ctx, what) {
  const isAdding = what === "add";
  const choices = isAdding ? (ctx.store.get().facets?.tags ?? []).map((tag) => tag.value) : tagsOf(ctx);
  const asked = { title: isAdding ? t("addTags") : t("removeTags"), label: t("tagNames"), submit: isAdding ? t("add") : t("remove"), choices };
  askText(asked, async (text) => {
    const tags = text.split(/[,，、]/).map((each) => each.trim()).filter(Boolean);
    const { items } = await ctx.api.post("/v1/tags", { ids: ids(ctx), [what]: tags });
    ctx.toast(t(isAdding ? "tagsAdded" : "tagsRemoved", { n: items }));
    changed(ctx);
  });
}

async function collect(ctx) {
  const known = await ctx.api.get("/v1/collections");
  const asked = { title: t("addToCollection"), label: t("newCollection"), submit: t("create"), picks: known.map(({ name, count }) => [name, t("itemCount", { n: count })]) };
  askText(asked, async (name) => {
    const address = `/v1/collections/${encodeURIComponent(name)}`;
    const isKnown = known.some((each) => each.name === name);
    await (isKnown ? ctx.api.post(address, { add: ids(ctx) }) : ctx.api.send("PUT", address, { ids: ids(ctx) }));
    ctx.toast(t("collected", { n: ctx.store.get().selection.size, name }), { label: t("open"), run: () => openCollection(ctx, name) });
    ctx.actions.clearSelection();
  });
}

function openCollection({ actions }, name) {
  actions.go({ terms: [], filters: { collections: [name] }, show: "photos", view: null });
}

async function leave(ctx, name) {
  await ctx.api.post(`/v1/collections/${encodeURIComponent(name)}`, { remove: ids(ctx) });
  changed(ctx);
}

function changed({ actions }) {
  actions.clearSelection();
  actions.refresh();
}
