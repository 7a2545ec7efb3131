/** The search box: plain words, the query language, and pictures that are dropped, pasted or chosen. */

import { createChip } from "./chips.js";
import { fill, h, icon, iconButton } from "./dom.js";
import { language, t } from "./i18n.js";
import { detailOf } from "./notices.js";
import { acceptPictures } from "./picture_input.js";
import { hasSyntax, isPlain, makeTerm, parse } from "./terms.js";

/** How long one must pause in typing until the words are searched for. */
const PAUSE = 350;

/** @param {object} ctx */
export function createSearchBox(ctx) {
  acceptPictures(ctx.actions);
  return new SearchBox(ctx).element;
}

class SearchBox {
  constructor(ctx) {
    this._ctx = ctx;
    this._timer = 0;
    /** Whether what is typed now replaces an entry of the history that was typed too. */
    this._isTyping = false;
    /** Whether the text is where a change of the terms comes from. */
    this._isOwn = false;
    this._build();
    this._listen();
    ctx.store.subscribe((state, before) => state.terms !== before.terms && this._show());
    this._show();
  }

  _build() {
    const { actions } = this._ctx;
    this._chips = h("div", { class: "chips", role: "group", "aria-label": t("terms") });
    this._mirror = h("div", { class: "mirror", "aria-hidden": "true" });
    this._fault = h("p", { class: "search-fault", id: "search-fault", role: "alert" });
    this._input = h("input", {
      id: "search", type: "search", class: "search-input", "aria-label": t("search"), "aria-describedby": "search-fault",
      autocomplete: "off", autocapitalize: "off", spellcheck: "false", enterkeyhint: "search",
    });
    this._clear = iconButton("close", t("clearSearch"), () => (actions.search([]), this._input.focus()));
    this._file = h("input", { type: "file", accept: "image/*", hidden: true, onchange: () => this._choosePicture() });
    this._form = h("form", { class: "search", role: "search", "aria-label": t("search") },
      h("span", { class: "search-icon" }, icon("search")), this._chips,
      h("div", { class: "search-field" }, this._mirror, this._input), this._clear,
      iconButton("picture", t("searchByPicture"), () => this._file.click()), this._file);
    this._hint = h("p", { class: "search-hint", role: "status" });
    this.element = h("div", { class: "search-holder" }, this._form, this._hint, this._fault);
  }

  _listen() {
    const input = this._input;
    this._form.addEventListener("submit", (event) => {
      event.preventDefault();
      this._submit();
    });
    input.addEventListener("input", (event) => {
      this._showFault(null);
      this._showHint();
      clearTimeout(this._timer);
      if (!event.isComposing) this._searchSoon();
    });
    input.addEventListener("compositionend", () => this._searchSoon());
    input.addEventListener("scroll", () => (this._mirror.scrollLeft = input.scrollLeft));
    input.addEventListener("blur", () => (this._isTyping = false));
    input.addEventListener("keydown", ({ key }) => {
      if (key === "Backspace" && !input.value) this._chips.lastElementChild?.querySelector("button:last-child").focus();
    });
  }

  /** The terms shown as chips: all, but for plain words alone, which stay text. */
  _chipTerms() {
    const { terms } = this._ctx.store.get();
    return isPlain(terms) ? [] : terms;
  }

  _show() {
    const { terms } = this._ctx.store.get();
    fill(this._chips, this._chipTerms().map((term, index) => createChip(this._ctx, term, index, () => this._input.focus())));
    this._chips.hidden = !this._chips.childElementCount;
    this._clear.hidden = !terms.length;
    this._input.placeholder = t(this._chips.hidden ? "searchHint" : "addTerm");
    if (!this._isOwn) {
      this._input.value = isPlain(terms) ? terms[0].value : "";
      this._isTyping = false;
    }
    this._showFault(null);
  }

  /** Terms are not searched for while one types: say how they are. */
  _showHint() {
    const text = this._input.value.trim();
    const isTerms = hasSyntax(text) || (text && this._chipTerms().length);
    fill(this._hint, isTerms && t("pressEnter"));
  }

  /** Mark the place in the text where it cannot be read, and say why. */
  _showFault(problem) {
    const text = this._input.value;
    const at = problem?.position ? problem.position - 1 : null;
    const marked = at === null ? [] : [text.slice(0, at), h("mark", {}, text.slice(at, at + 1) || " "), text.slice(at + 1)];
    fill(this._mirror, marked);
    this._mirror.scrollLeft = this._input.scrollLeft;
    fill(this._hint);
    fill(this._fault, problem && (language === "en" ? problem.message : [problem.title, detailOf(problem)]));
    if (problem) this._input.setAttribute("aria-invalid", "true");
    else this._input.removeAttribute("aria-invalid");
  }

  _searchSoon() {
    this._timer = setTimeout(() => this._searchLive(), PAUSE);
  }

  /** Search while one types, if these are plain words alone. One entry of the history holds all that is typed. */
  _searchLive() {
    const text = this._input.value.trim();
    if (this._chipTerms().length || hasSyntax(text)) return;
    if (text === (this._ctx.store.get().terms[0]?.value ?? "")) return;
    const replace = this._isTyping;
    this._isTyping = this._isOwn = true;
    this._ctx.actions.search(text ? [makeTerm("text", text)] : [], { replace });
    this._isOwn = false;
  }

  async _submit() {
    clearTimeout(this._timer);
    const text = this._input.value.trim();
    const added = hasSyntax(text) ? (parse(text) ?? (await this._ask(text))) : text ? [makeTerm("text", text)] : [];
    if (!added) return;
    const chips = this._chipTerms();
    if (added.length || !chips.length) this._ctx.actions.search([...chips, ...added], { replace: this._isTyping });
    this._isTyping = false;
    if (matchMedia("(hover: none)").matches) this._input.blur(); // the keyboard of a phone covers the hits
  }

  /** Let the server read a query with operators, which may be plain words, or say what is wrong with it. */
  async _ask(text) {
    try {
      const { query } = await this._ctx.api.post("/v1/search", { query: this._input.value, k: 1 });
      return parse(query) ?? [makeTerm("query", text)];
    } catch (problem) {
      this._showFault(problem);
    }
  }

  _choosePicture() {
    const [file] = this._file.files;
    if (file) this._ctx.actions.searchPicture(file);
    this._file.value = "";
  }
}
