/** Short messages: shown for a while, and said by screen readers. */

import { h } from "./dom.js";

const SHOWN_FOR = 6000;

/** Make the two places for messages, to be put into the page, and what fills them. */
export function createMessages() {
  const live = h("div", { class: "visually-hidden", role: "status", "aria-live": "polite" });
  const toasts = h("div", { class: "toasts", role: "status", "aria-live": "polite" });

  /** @param {string} text said by screen readers alone */
  function announce(text) {
    live.textContent = "";
    // A text that is set twice in a row is else said once only.
    requestAnimationFrame(() => (live.textContent = text));
  }

  /** @param {string} text @param {{label: string, run: () => void}} [action] a button within the message */
  function toast(text, action) {
    const close = () => element.remove();
    const button = action && h("button", { type: "button", class: "link", onclick: () => (close(), action.run()) }, action.label);
    const element = h("div", { class: "toast" }, h("span", {}, text), button);
    // What lies outside an open dialog is behind it, and screen readers do not hear it.
    const dialog = [...document.querySelectorAll("dialog[open]")].at(-1);
    (dialog ?? document.body).append(toasts);
    dialog?.addEventListener("close", () => document.body.append(toasts), { once: true });
    toasts.append(element);
    setTimeout(close, SHOWN_FOR);
  }

  return { elements: [live, toasts], announce, toast };
}
