/** The justified layout: rows of about one height, each as wide as the page. Pure functions. */

export const GAP = 4;

/** Room above the first row of a day. */
export const HEAD = 44;

/** Wider or narrower pictures are cut to these, so that a panorama does not take rows for itself. */
const NARROWEST = 0.5;
const WIDEST = 2.8;
const CARD = 1.5;
const USUAL = 1.4;

/**
 * @typedef {object} Row
 * @property {number} start position of its first item within the block
 * @property {number[]} widths of its items, in pixels
 * @property {number} top within the block
 * @property {number} height
 * @property {string} [day] that begins with this row; its heading stands above
 */

/**
 * Return how wide an item is shown, by its height.
 * @param {object} item as the API gives it
 */
export function ratioOf({ width, height, item_modality: ofHit, modality }) {
  if ((ofHit ?? modality) === "text") return CARD;
  return width && height ? Math.min(WIDEST, Math.max(NARROWEST, width / height)) : 1;
}

/**
 * Return how high rows should be on a page of this width.
 * @param {number} width pixels
 */
export function targetHeight(width) {
  return Math.round(Math.min(320, Math.max(112, 96 + width * 0.072)));
}

/**
 * Lay out the items of a block.
 * @param {object[]} items
 * @param {number} width pixels of a row
 * @param {boolean} isEnd whether nothing follows
 * @param {((item: object) => string) | null} dayOf where each day begins with a heading
 * @param {object} [before] the item before the block, if it is known
 * @returns {{rows: Row[], height: number}}
 */
export function layOutBlock(items, width, isEnd, dayOf, before) {
  if (!dayOf) return layOut(items.map(ratioOf), width, isEnd);
  const rows = [];
  let top = 0;
  for (let start = 0; start < items.length; ) {
    const day = dayOf(items[start]);
    const next = items.findIndex((item, index) => index > start && dayOf(item) !== day);
    const end = next < 0 ? items.length : next;
    const part = layOut(items.slice(start, end).map(ratioOf), width, isEnd || next > 0);
    const isNew = start > 0 || !before || dayOf(before) !== day;
    if (isNew) (part.rows[0].day = day), (top += HEAD);
    rows.push(...part.rows.map((row) => ({ ...row, start: start + row.start, top: top + row.top })));
    top += part.height;
    start = end;
  }
  return { rows, height: top };
}

/**
 * Share items out to rows of about one height.
 * @param {number[]} ratios
 * @param {number} width pixels of a row
 * @param {boolean} isEnd whether nothing follows; the last row need not be full then
 * @returns {{rows: Row[], height: number}}
 */
function layOut(ratios, width, isEnd) {
  const target = targetHeight(width);
  const rows = [];
  let top = 0;
  for (const [start, end] of split(ratios, width / target, isEnd)) {
    const shown = ratios.slice(start, end);
    const sum = shown.reduce((total, ratio) => total + ratio, 0);
    const free = width - GAP * (shown.length - 1);
    const isShort = end === ratios.length && free / sum > target * 1.3;
    const height = Math.round(isShort ? target : free / sum);
    rows.push({ start, widths: widthsOf(shown, isShort ? height * sum : free, sum), top, height });
    top += height + GAP;
  }
  return { rows, height: top };
}

/**
 * Guess the height of a block that is not loaded.
 * @param {number} count of its items
 * @param {number} width pixels of a row
 */
export function guessHeight(count, width) {
  const target = targetHeight(width);
  return Math.max(1, Math.round((count * USUAL * target) / width)) * (target + GAP);
}

/** Return the bounds of each row, so that rows are about equally wide. The end of the list fills rows in order. */
function split(ratios, perRow, isEnd) {
  const bounds = [];
  let left = ratios.reduce((total, ratio) => total + ratio, 0);
  let rows = Math.max(1, Math.round(left / perRow));
  for (let start = 0; start < ratios.length; rows -= 1) {
    const wanted = isEnd ? perRow : left / Math.max(1, rows);
    const end = endOfRow(ratios, start, wanted);
    left -= ratios.slice(start, end).reduce((total, ratio) => total + ratio, 0);
    bounds.push([start, end]);
    start = end;
  }
  return bounds;
}

/** Add items while that brings the row closer to what is wanted. */
function endOfRow(ratios, start, wanted) {
  let sum = ratios[start];
  let end = start + 1;
  while (end < ratios.length && Math.abs(wanted - sum - ratios[end]) <= Math.abs(wanted - sum)) {
    sum += ratios[end];
    end += 1;
  }
  return end;
}

/** Round widths so that the row ends exactly where it should. */
function widthsOf(ratios, free, sum) {
  let along = 0;
  return ratios.map((ratio) => {
    const before = Math.round(along);
    along += (ratio / sum) * free;
    return Math.round(along) - before;
  });
}
