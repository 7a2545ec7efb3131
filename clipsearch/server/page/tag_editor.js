/** The tags of an item, which can be changed where the server allows that. */

import { fill, h, icon } from "./dom.js";
import { t } from "./i18n.js";

/**
 * Make the part of the details with the tags; null where there is nothing to show.
 * @param {{api: object, store: object, actions: object, toast: Function}} ctx
 * @param {{id: number, tags?: string[]}} item
 */
export function createTagEditor({ api, store, actions, toast }, item) {
  const isWritable = store.get().capabilities.writable;
  let tags = item.tags ?? [];
  if (!isWritable && !tags.length) return null;
  const list = h("div", { class: "tags" });
  const input = h("input", {
    type: "text", class: "field", list: "known-tags", placeholder: t("addTag"), "aria-label": t("addTag"), maxlength: 200, autocomplete: "off",
  });
  const known = h("datalist", { id: "known-tags" }, (store.get().facets?.tags ?? []).map(({ value }) => h("option", { value })));
  const form = h("form", { onsubmit: submit }, input, known);

  async function change(add, remove) {
    const before = tags;
    tags = [...tags.filter((tag) => !remove.includes(tag)), ...add.filter((tag) => !tags.includes(tag))];
    draw();
    try {
      await api.post("/v1/tags", { ids: [item.id], add, remove });
      store.set({ changes: store.get().changes + 1 });
    } catch (problem) {
      tags = before;
      draw();
      toast(problem.message);
    }
  }

  function submit(event) {
    event.preventDefault();
    const tag = input.value.trim();
    input.value = "";
    if (tag) change([tag], []);
  }

  function draw() {
    fill(list, tags.map((tag) => h("span", { class: "tag" },
      h("button", { type: "button", class: "tag-name", title: t("showTag", { name: tag }), onclick: () => actions.go({ filters: { tags: [tag] }, terms: [], show: "photos", view: null }) }, tag),
      isWritable && h("button", { type: "button", class: "tag-remove", "aria-label": t("removeTag", { name: tag }), onclick: () => (change([], [tag]), input.focus()) }, icon("close")))));
  }

  draw();
  return h("section", { class: "detail" }, h("h3", {}, t("tags")), list, isWritable && form);
}
