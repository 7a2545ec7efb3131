/** The list of keys. */

import { h, iconButton } from "./dom.js";
import { t } from "./i18n.js";

const KEYS = [
  ["/", "keySearch"],
  ["← → ↑ ↓", "keyMove"],
  ["Enter", "keyOpen"],
  ["M", "keyLike"],
  ["L", "keyUnlike"],
  ["X", "keySelect"],
  ["Ctrl A", "keySelectAll"],
  ["Esc", "keyEscape"],
  ["+ −", "keyZoom"],
  ["I", "keyDetails"],
  ["?", "keyHelp"],
];

/** Open the list of keys, and how queries are written. */
export function openHelp() {
  const rows = KEYS.map(([keys, word]) => h("div", { class: "key-row" }, h("dt", {}, h("kbd", {}, keys)), h("dd", {}, t(word))));
  const close = iconButton("close", t("close"), () => dialog.close());
  const dialog = h("dialog", { class: "dialog", "aria-labelledby": "help-title", onclose: () => dialog.remove() },
    h("div", { class: "row between" }, h("h2", { id: "help-title" }, t("keys")), close),
    h("dl", { class: "key-list" }, rows),
    h("h3", {}, t("queryTitle")),
    h("p", {}, t("queryHelp")),
    h("p", {}, h("code", {}, t("queryExample"))),
    h("p", {}, t("operators")),
    h("p", {}, h("code", {}, "(dog or cat) and not tag:beach")));
  dialog.addEventListener("click", (event) => event.target === dialog && dialog.close());
  document.body.append(dialog);
  dialog.showModal();
}
