/** The menu: appearance, language, indexing, keys, signing out. */

import { h, iconButton } from "./dom.js";
import { chooseLanguage, language, LANGUAGES, t } from "./i18n.js";

const THEME = "clipsearch.theme";

/** @param {{store: object, actions: object, api: object}} ctx */
export function createMenu({ store, actions, api }) {
  const index = menuButton(t("jobs"), () => actions.show("jobs"));
  const leave = menuButton(t("signOut"), () => signOut(api));
  const popover = h("div", { id: "menu", class: "menu", popover: "auto" },
    choice(t("appearance"), "theme", { system: t("system"), light: t("light"), dark: t("dark") }, theme(), chooseTheme),
    choice(t("language"), "language", LANGUAGES, language, chooseLanguage),
    h("hr"), index, menuButton(t("keys"), async () => (await import("./help.js")).openHelp()), leave);

  function menuButton(label, run) {
    return h("button", { type: "button", class: "menu-item", onclick: () => (popover.hidePopover(), run()) }, label);
  }

  function update({ capabilities }) {
    index.hidden = !capabilities.writable;
    leave.hidden = !capabilities.needsToken;
  }

  store.subscribe(update);
  update(store.get());
  const open = iconButton("menu", t("menu"), () => {}, { popovertarget: "menu" });
  return h("div", { class: "menu-holder" }, open, popover);
}

function choice(legend, name, values, chosen, choose) {
  const option = ([value, label]) => h("label", { class: "segment" },
    h("input", { type: "radio", name, value, checked: value === chosen, onchange: () => choose(value) }), h("span", {}, label));
  return h("fieldset", { class: "choice" }, h("legend", {}, legend),
    h("div", { class: "segments" }, Object.entries(values).map(option)));
}

function theme() {
  return document.documentElement.dataset.theme ?? "system";
}

function chooseTheme(value) {
  if (value === "system") {
    localStorage.removeItem(THEME);
    delete document.documentElement.dataset.theme;
  } else {
    localStorage.setItem(THEME, value);
    document.documentElement.dataset.theme = value;
  }
}

async function signOut(api) {
  await api.send("DELETE", "/v1/session");
  location.assign("/");
}
