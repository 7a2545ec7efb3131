/** The view of the photographs: how many were found, what the server says of the answer, and the grid. */

import { isAbort } from "./api.js";
import { createActiveFilters } from "./active_filters.js";
import { fill, h, icon } from "./dom.js";
import { Grid } from "./grid.js";
import { useGrid } from "./grid_input.js";
import { t } from "./i18n.js";
import { nothingFound, notices, problemPanel } from "./notices.js";
import { termAt } from "./terms.js";

/** @param {object} ctx */
export function mount(ctx) {
  const { store, actions, announce } = ctx;
  const count = h("p", { class: "count" });
  const filters = h("button", { type: "button", class: "button filter-button", popovertarget: "filters" }, icon("filter"), t("filters"));
  const active = createActiveFilters(ctx);
  const notes = h("div", { class: "notes" });
  const holder = h("div", { class: "grid-holder" });
  const element = h("section", { class: "photos", "aria-label": t("photos") },
    h("h1", { class: "visually-hidden" }, t("photos")),
    h("div", { class: "toolbar" }, count, active.element, filters), notes, holder);
  let grid = null;
  let shown = null;

  /** Load the first hits, and only then replace the former: the page does not flicker. */
  async function show(results) {
    if (grid) holder.classList.add("is-waiting");
    else fill(holder, h("div", { class: "skeleton" }));
    try {
      await results.load(0);
    } catch (error) {
      if (!isAbort(error) && results === store.get().results) showProblem(error, results);
      return;
    }
    if (results !== store.get().results || results === shown) return;
    replace(results);
  }

  function replace(results) {
    const hadFocus = holder.contains(document.activeElement);
    clear();
    shown = results;
    expect(results);
    if (!results.total) fill(holder, nothingFound(ctx));
    else showGrid(results, hadFocus);
    showNotes(results);
    announce(countText(results));
  }

  function showGrid(results, hadFocus) {
    grid = new Grid(ctx, results, (error) => isAbort(error) || ctx.toast(error.message, { label: t("tryAgain"), run: () => grid?.retry() }));
    useGrid(ctx, grid);
    fill(holder, grid.element);
    grid.drawNow();
    scrollTo(0, history.state?.scroll ?? 0);
    if (hadFocus) grid.focus(results.active);
  }

  function showProblem(problem, results) {
    clear();
    shown = null;
    fill(notes);
    fill(count);
    const { terms } = store.get();
    const wrong = problem.position && terms.length ? termAt(terms, problem.position) : -1;
    document.querySelectorAll(".chips .chip").forEach((chip, index) => chip.classList.toggle("is-wrong", index === wrong));
    fill(holder, problemPanel(problem, () => show(results)));
    announce(problem.message);
  }

  function clear() {
    grid?.destroy();
    grid = null;
    holder.classList.remove("is-waiting");
    fill(holder);
  }

  function showNotes(results) {
    fill(notes, notices(results));
    fill(count, countText(results));
  }

  /** A ranked search finds as many items as the filters allow, unless weak hits or copies are left out. */
  function expect(results) {
    const { facets, filters: wanted, options } = store.get();
    if (results.isRanked && facets?.filters === wanted && !options.likely && !options.collapse) results.expect(facets.total);
  }

  function update(state, before) {
    if (state.isBusy !== before.isBusy) fill(count, state.isBusy ? t("busyWait") : shown && countText(shown));
    if (state.results !== before.results && state.results) show(state.results);
    if (state.facets !== before.facets && shown) (expect(shown), fill(count, countText(shown)));
    if (state.selection !== before.selection) grid?.markSelected(state.selection);
    if (state.view === null && before.view !== null) grid?.focusItem(before.view);
  }

  const unsubscribe = store.subscribe(update);
  if (store.get().results) show(store.get().results);
  return {
    element,
    destroy() {
      unsubscribe();
      active.destroy();
      clear();
    },
  };
}

function countText(results) {
  if (!results.total) return t("countNone");
  const values = { n: results.total };
  if (!results.isRanked) return t("countNewest", values);
  return t(results.isCounted || results.isExpected ? "countBest" : "countMany", values);
}
