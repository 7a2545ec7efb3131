/** Keys that work anywhere in the page, but where one types. */

/** @param {object} ctx */
export function installKeys(ctx) {
  const { store, actions } = ctx;
  document.addEventListener("keydown", (event) => {
    if (event.defaultPrevented || event.isComposing || document.querySelector("dialog[open]")) return;
    if (event.target.id === "search") return fromSearch(event);
    if (event.target.closest("input:not([type=checkbox], [type=radio]), textarea, select")) return;
    const run = (event.ctrlKey || event.metaKey ? withControl : plain)(event.key);
    if (!run) return;
    event.preventDefault();
    run();
  });

  function plain(key) {
    const keys = { "/": focusSearch, "?": async () => (await import("./help.js")).openHelp() };
    if (store.get().selection.size) keys.Escape = actions.clearSelection;
    return keys[key];
  }

  function withControl(key) {
    const { show, results } = store.get();
    return key === "a" && show === "photos" && results?.total ? async () => (await import("./select_all.js")).selectAll(ctx) : null;
  }
}

function focusSearch() {
  const input = document.getElementById("search");
  input.focus();
  input.select();
}

function fromSearch(event) {
  if (event.key !== "ArrowDown") return;
  const tile = document.querySelector(".tile[tabindex='0']");
  if (!tile) return;
  event.preventDefault();
  tile.focus();
}
