/** The view of the photographs: how many were found, what the server says of the answer, and the grid. */

import { isAbort } from "./api.js";
import { createActiveFilters } from "./active_filters.js";
import { choices, fill, h, icon } from "./dom.js";
import { Grid } from "./grid.js";
import { useGrid } from "./grid_input.js";
import { t } from "./i18n.js";
import { nothingFound, notices, problemPanel } from "./notices.js";
import { orderOf, SORTS } from "./searching.js";
import { termAt } from "./terms.js";

/** @param {object} ctx */
export function mount(ctx) {
  return new Photos(ctx);
}

class Photos {
  constructor(ctx) {
    this._ctx = ctx;
    this._grid = null;
    this._shown = null;
    this._build();
    this._unsubscribe = ctx.store.subscribe((state, before) => this._update(state, before));
    const { results } = ctx.store.get();
    this._showSort();
    if (results) this._show(results);
  }

  destroy() {
    this._unsubscribe();
    this._active.destroy();
    this._clear();
  }

  _build() {
    this._count = h("p", { class: "count" });
    this._sort = h("select", { class: "button sort", "aria-label": t("sort"), onchange: ({ target }) => this._ctx.actions.option({ sort: target.value }) });
    this._active = createActiveFilters(this._ctx);
    this._notes = h("div", { class: "notes" });
    this._holder = h("div", { class: "grid-holder" });
    const filters = h("button", { type: "button", class: "button filter-button", popovertarget: "filters" }, icon("filter"), t("filters"));
    this.element = h("section", { class: "photos", "aria-label": t("photos") },
      h("h1", { class: "visually-hidden" }, t("photos")),
      h("div", { class: "toolbar" }, this._count, this._sort, this._active.element, filters), this._notes, this._holder);
  }

  /** The order that is usual for a search, or without one, comes first; choosing it ends any other. */
  _showSort() {
    const state = this._ctx.store.get();
    const usual = orderOf({ ...state, options: {} });
    const others = SORTS.filter((sort) => sort !== usual);
    fill(this._sort, choices([["", t(`sort_${usual}`)], ...others.map((sort) => [sort, t(`sort_${sort}`)])], state.options.sort || ""));
  }

  _update(state, before) {
    const { results, facets, selection, view, isBusy } = state;
    if (isBusy !== before.isBusy) isBusy ? fill(this._count, t("busyWait")) : this._showCount();
    if (state.terms !== before.terms || state.options !== before.options) this._showSort();
    if (results !== before.results && results) this._show(results);
    if (facets !== before.facets && this._shown) this._expect(this._shown);
    if (selection !== before.selection) this._grid?.markSelected(selection);
    if (view === null && before.view !== null) this._grid?.focusItem(before.view);
  }

  /** Load the first hits, and only then replace the former: the page does not flicker. */
  async _show(results) {
    if (this._grid) this._holder.classList.add("is-waiting");
    else fill(this._holder, h("div", { class: "skeleton" }));
    const isWanted = () => results === this._ctx.store.get().results && results !== this._shown;
    try {
      await results.load(0);
    } catch (error) {
      if (!isAbort(error) && isWanted()) this._showProblem(error, results);
      return;
    }
    if (isWanted()) this._replace(results);
    else if (results === this._shown) this._holder.classList.remove("is-waiting");
  }

  _replace(results) {
    const hadFocus = this._holder.contains(document.activeElement);
    this._clear();
    this._shown = results;
    this._expect(results);
    fill(this._notes, notices(results, this._ctx.actions));
    if (results.total) this._showGrid(results, hadFocus);
    else fill(this._holder, nothingFound(this._ctx));
    this._ctx.announce(countText(results));
  }

  _showGrid(results, hadFocus) {
    const grid = new Grid(this._ctx, results, (error) => this._onFault(error));
    this._grid = grid;
    this._unfollow = results.subscribe(() => this._showCount());
    useGrid(this._ctx, grid);
    fill(this._holder, grid.element);
    grid.drawNow();
    scrollTo(0, history.state?.scroll ?? 0);
    if (hadFocus) grid.focus(results.active);
  }

  /** More hits could not be loaded; those that are there stay. */
  _onFault(error) {
    if (!isAbort(error)) this._ctx.toast(error.message, { label: t("tryAgain"), run: () => this._grid?.retry() });
  }

  _showProblem(problem, results) {
    this._clear();
    this._shown = null;
    fill(this._notes);
    fill(this._count);
    this._markTerm(problem);
    fill(this._holder, problemPanel(this._ctx, problem, () => this._show(results)));
  }

  /** Mark the chip that a problem is about. */
  _markTerm({ position }) {
    const { terms } = this._ctx.store.get();
    const wrong = position && terms.length ? termAt(terms, position) : -1;
    document.querySelectorAll(".chips .chip").forEach((chip, index) => chip.classList.toggle("is-wrong", index === wrong));
  }

  _clear() {
    this._grid?.destroy();
    this._unfollow?.();
    this._grid = null;
    this._holder.classList.remove("is-waiting");
    fill(this._holder);
  }

  /** A ranked search finds as many items as the filters allow, unless it leaves some out or has filters in its words. */
  _expect(results) {
    const { facets, filters } = this._ctx.store.get();
    if (results.isWhole && !results.understood && facets?.filters === filters) results.expect(facets.total);
    this._showCount();
  }

  /** Say how many there are; that there are none stands below, large. The order is seen beside it. */
  _showCount() {
    const shown = this._shown;
    fill(this._count, shown?.total > 0 && [countText(shown), h("span", { class: "visually-hidden" }, `, ${t(`sort_${shown.sort}`)}`)]);
  }
}

function countText(results) {
  const { total, isCounted, isExpected, isLikely } = results;
  if (!total) return t("countNone");
  const isExact = isCounted || isExpected;
  const count = t(isLikely ? "likelyCount" : "itemCount", { n: isExact ? total : results.loaded().length });
  return isExact ? count : t("andMore", { count });
}
