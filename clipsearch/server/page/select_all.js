/** Selecting all that a search finds, also what the grid has not loaded. */

/** As many as the server tags, or puts into a collection, at once. */
const MOST = 10_000;
const BLOCK = 1000;

/** The results that are being selected. */
let running = null;

/**
 * Select all items of the results that are shown, block by block, until another search is shown or the selection is
 * cleared.
 * @param {object} ctx
 */
export async function selectAll({ store, actions, announce, toast, t }) {
  const { results } = store.get();
  if (running === results) return; // the key is held
  running = results;
  const isWanted = () => store.get().results === results && store.get().selection.size > 0;
  try {
    actions.select(results.loaded(), true);
    announce(t("selectingAll"));
    for (let offset = 0; offset < MOST; offset += BLOCK) {
      const { items, hasMore } = await results.read(offset, BLOCK);
      if (!isWanted()) return;
      actions.select(items, true);
      if (!hasMore) return;
    }
    toast(t("selectedMost", { n: MOST }));
  } finally {
    running = null;
  }
}
