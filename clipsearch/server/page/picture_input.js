/** Pictures that are pasted or dropped anywhere on the page. */

import { h, icon } from "./dom.js";
import { t } from "./i18n.js";

/** @param {{searchPicture: (file: File) => void}} actions */
export function acceptPictures(actions) {
  const hint = h("div", { class: "drop-hint", hidden: true }, icon("picture"), h("p", {}, t("dropHint")));
  document.body.append(hint);

  function take(event, data) {
    const file = [...(data?.files ?? [])].find((each) => each.type.startsWith("image/"));
    if (!file) return;
    event.preventDefault();
    actions.searchPicture(file);
  }

  document.addEventListener("paste", (event) => take(event, event.clipboardData));
  document.addEventListener("dragover", (event) => {
    if (!event.dataTransfer?.types.includes("Files")) return;
    event.preventDefault();
    hint.hidden = false;
  });
  document.addEventListener("dragleave", (event) => {
    if (!event.relatedTarget) hint.hidden = true;
  });
  document.addEventListener("drop", (event) => {
    hint.hidden = true;
    take(event, event.dataTransfer);
    // A file that is no picture would else be opened in place of the page.
    if (event.dataTransfer?.types.includes("Files")) event.preventDefault();
  });
}
