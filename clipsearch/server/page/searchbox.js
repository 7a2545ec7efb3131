/** The search box: plain words, the query language, and pictures that are dropped, pasted or chosen. */

import { createChip } from "./chips.js";
import { fill, h, icon, iconButton } from "./dom.js";
import { t } from "./i18n.js";
import { acceptPictures } from "./picture_input.js";
import { hasSyntax, makeTerm, parse } from "./terms.js";

/** How long one must pause in typing until the words are searched for. */
const PAUSE = 350;

/** @param {object} ctx */
export function createSearchBox(ctx) {
  const { api, store, actions } = ctx;
  const chips = h("div", { class: "chips", role: "group", "aria-label": t("terms") });
  const mirror = h("div", { class: "mirror", "aria-hidden": "true" });
  const fault = h("p", { class: "search-fault", id: "search-fault", role: "alert" });
  const input = h("input", {
    id: "search", type: "search", class: "search-input", placeholder: t("searchHint"), "aria-label": t("search"),
    "aria-describedby": "search-fault", autocomplete: "off", autocapitalize: "off", spellcheck: "false", enterkeyhint: "search",
  });
  const clear = iconButton("close", t("clearSearch"), () => (actions.search([]), input.focus()));
  const file = h("input", { type: "file", accept: "image/*", hidden: true, onchange: () => choosePicture() });
  const form = h("form", { class: "search", role: "search", "aria-label": t("search") },
    h("span", { class: "search-icon" }, icon("search")), chips,
    h("div", { class: "search-field" }, mirror, input), clear,
    iconButton("picture", t("searchByPicture"), () => file.click()), file);
  let timer = 0;
  let isTyping = false;
  let isOwn = false;

  function choosePicture() {
    if (file.files[0]) actions.searchPicture(file.files[0]);
    file.value = "";
  }

  /** The terms shown as chips: all, but for plain words alone, which stay text. */
  function chipTerms() {
    const { terms } = store.get();
    return isPlain(terms) ? [] : terms;
  }

  function show() {
    const { terms } = store.get();
    fill(chips, chipTerms().map((term, index) => createChip(ctx, term, index, () => input.focus())));
    chips.hidden = !chips.childElementCount;
    clear.hidden = !terms.length;
    if (!isOwn) {
      input.value = isPlain(terms) ? terms[0].value : "";
      isTyping = false;
    }
    input.placeholder = terms.length && !isPlain(terms) ? t("addTerm") : t("searchHint");
    showFault(null);
  }

  /** Mark the place in the text where it cannot be read, and say why. */
  function showFault(problem) {
    const at = problem?.position ? problem.position - 1 : null;
    const text = input.value;
    if (at === null) fill(mirror);
    else fill(mirror, text.slice(0, at), h("mark", {}, text.slice(at, at + 1) || " "), text.slice(at + 1));
    mirror.scrollLeft = input.scrollLeft;
    fill(fault, problem?.message);
    if (problem) input.setAttribute("aria-invalid", "true");
    else input.removeAttribute("aria-invalid");
  }

  /** Search while one types, if these are plain words alone. One entry of the history holds all that is typed. */
  function searchLive() {
    const text = input.value.trim();
    if (chipTerms().length || hasSyntax(text)) return;
    if (text === (store.get().terms[0]?.value ?? "")) return;
    const replace = isTyping;
    isTyping = isOwn = true; // the text stays as it is typed
    actions.search(text ? [makeTerm("text", text)] : [], { replace });
    isOwn = false;
  }

  async function submit() {
    clearTimeout(timer);
    const text = input.value.trim();
    const added = hasSyntax(text) ? parse(text) : text && [makeTerm("text", text)];
    if (added === null) return explain(text);
    const replace = isTyping;
    isTyping = false;
    if (added || !chipTerms().length) actions.search([...chipTerms(), ...(added || [])], { replace });
  }

  /** Let the server say what is wrong with a query. */
  async function explain(text) {
    await api.post("/v1/search", { query: input.value, k: 1 }).then(
      () => actions.search([makeTerm("text", text)]),
      (problem) => showFault(problem));
  }

  form.addEventListener("submit", (event) => {
    event.preventDefault();
    submit();
  });
  input.addEventListener("input", (event) => {
    showFault(null);
    clearTimeout(timer);
    if (!event.isComposing) timer = setTimeout(searchLive, PAUSE);
  });
  input.addEventListener("compositionend", () => (timer = setTimeout(searchLive, PAUSE)));
  input.addEventListener("scroll", () => (mirror.scrollLeft = input.scrollLeft));
  input.addEventListener("blur", () => (isTyping = false));
  input.addEventListener("keydown", (event) => {
    if (event.key === "Backspace" && !input.value) chips.lastElementChild?.querySelector("button:last-child").focus();
  });
  store.subscribe((state, before) => state.terms !== before.terms && show());
  acceptPictures(actions);
  show();
  return h("div", { class: "search-holder" }, form, fault);
}

function isPlain(terms) {
  return terms.length === 1 && terms[0].kind === "text" && terms[0].sign > 0 && terms[0].weight === 1;
}
