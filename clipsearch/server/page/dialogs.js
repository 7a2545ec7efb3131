/** Small questions in a dialog: for a word or two, and whether one is sure. */

import { fill, h } from "./dom.js";
import { t } from "./i18n.js";

let asked = 0;

/**
 * Ask for a text.
 * @param {{title: string, label: string, submit: string, value?: string, choices?: string[], picks?: [string, string][]}} what
 *   choices: shown as suggestions; picks: texts to choose with one click, each with what is said of it
 * @param {(text: string) => Promise<void>} run does what was asked for; while it fails the dialog stays, and says why
 */
export function askText({ title, label, submit, value = "", choices = [], picks = [] }, run) {
  asked += 1;
  const [id, listId] = [`asked-${asked}`, `choices-${asked}`];
  const input = h("input", { id, class: "field", type: "text", required: true, maxlength: 200, autocomplete: "off", value, list: choices.length > 0 && listId });
  const pick = (text) => {
    input.value = text;
    input.form.requestSubmit();
  };
  const list = picks.length > 0 && h("ul", { class: "picks" }, picks.map(([text, note]) => h("li", {},
    h("button", { type: "button", class: "menu-item", onclick: () => pick(text) }, h("span", {}, text), h("span", { class: "muted" }, note)))));
  const fields = [list, h("label", { for: id, class: "label" }, label), input, h("datalist", { id: listId }, choices.map((each) => h("option", { value: each })))];
  ask({ title, fields, submit }, async () => {
    const text = input.value.trim();
    if (text) await run(text);
  });
  if (!list) input.select();
}

/**
 * Ask whether one is sure.
 * @param {{title: string, text: string, submit: string}} what
 * @param {() => Promise<void>} run
 */
export function askSure({ title, text, submit }, run) {
  ask({ title, fields: [h("p", {}, text)], submit }, run);
}

function ask({ title, fields, submit }, run) {
  const fault = h("p", { class: "error", role: "alert" });
  const button = h("button", { class: "button primary" }, submit);
  const cancel = h("button", { class: "button", type: "button", onclick: () => dialog.close() }, t("cancel"));
  const form = h("form", { method: "dialog" }, h("h2", { id: "asked-title" }, title), fields, fault, h("div", { class: "row end" }, cancel, button));
  const dialog = h("dialog", { class: "dialog", "aria-labelledby": "asked-title", onclose: () => dialog.remove() }, form);
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    button.disabled = true;
    try {
      await run();
      dialog.close();
    } catch (problem) {
      fill(fault, problem.message);
    }
    button.disabled = false;
  });
  document.body.append(dialog);
  dialog.showModal();
}
