/** Whether the server wants a token, and asking for it. The browser keeps a cookie that no script can read. */

import { problemOf } from "./api.js";
import { fill, h } from "./dom.js";
import { t } from "./i18n.js";

/**
 * Ask the person for the token, once however many requests wait for it.
 * @returns {() => Promise<void>} resolves once the server has taken a token
 */
export function createTokenDialog() {
  let asking = null;
  return () => {
    asking ??= ask().finally(() => (asking = null));
    return asking;
  };
}

/**
 * Ask the server what it allows; that needs no token.
 * @param {{get: Function}} api
 * @returns {Promise<{writable: boolean, needsToken: boolean}>}
 */
export async function readCapabilities(api) {
  const { writable, needs_token: needsToken } = await api.get("/v1/session");
  return { writable, needsToken };
}

function ask() {
  return new Promise((resolve) => {
    const field = h("input", { type: "password", name: "token", id: "token", autocomplete: "current-password", required: true });
    const fault = h("p", { class: "error", role: "alert" });
    const submit = h("button", { class: "button primary" }, t("tokenSend"));
    const form = h("form", { method: "dialog" },
      h("h2", { id: "token-title" }, t("tokenTitle")),
      h("p", {}, t("tokenWhy")),
      h("label", { for: "token", class: "label" }, t("token")), field, fault,
      h("div", { class: "row end" }, submit));
    const dialog = h("dialog", { class: "dialog", "aria-labelledby": "token-title" }, form);
    dialog.addEventListener("cancel", (event) => event.preventDefault());
    form.addEventListener("submit", async (event) => {
      event.preventDefault();
      submit.disabled = true;
      const said = await logIn(field.value.trim());
      submit.disabled = false;
      fill(fault, said);
      if (said) return field.select();
      dialog.close();
      dialog.remove();
      resolve();
    });
    document.body.append(dialog);
    dialog.showModal();
  });
}

/** Send a token; return what is wrong, or an empty text. It does not go through the API, which would ask again. */
async function logIn(token) {
  const headers = { "Content-Type": "application/json" };
  try {
    const response = await fetch("/v1/session", { method: "POST", headers, body: JSON.stringify({ token }) });
    if (response.ok) return "";
    if (response.status === 401) return t("tokenWrong");
    return (await problemOf(response)).message;
  } catch {
    return t("problem_unreachable");
  }
}
