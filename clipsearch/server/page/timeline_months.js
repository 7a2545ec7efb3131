/** Months, and the filters that choose them. Pure functions. */

/** So many values one filter takes; a longer range is written by its ends. */
const MOST_VALUES = 24;

/**
 * List the years that have items, the latest first.
 * @param {Map<string, number>} counts how many items months such as `2024-06` have
 * @returns {string[]}
 */
export function listYears(counts) {
  return [...new Set([...counts.keys()].map((month) => month.slice(0, 4)))].sort().reverse();
}

/**
 * Return the months that filters choose, of those that have items.
 * @param {{months?: string[], after?: string, before?: string}} filters
 * @param {Map<string, number>} counts
 * @returns {Set<string>}
 */
export function chosenMonths({ months = [], after, before }, counts) {
  if (!months.length && !after && !before) return new Set();
  const isIn = (month) =>
    (!months.length || months.some((each) => month.startsWith(each))) && (!after || month >= after.slice(0, 7)) && (!before || month < before);
  return new Set([...counts.keys()].filter(isIn));
}

/**
 * Choose one month, or no longer; with others that are chosen one by one.
 * @param {object} filters
 * @param {string} month
 * @returns {object} a patch of the filters
 */
export function toggle({ months = [], after, before }, month) {
  const isRange = after || before;
  if (isRange) return { months: [month], after: null, before: null };
  const year = month.slice(0, 4);
  if (months.includes(year)) return { months: [month] };
  const next = months.includes(month) ? months.filter((each) => each !== month) : [...months, month];
  return { months: next.length > MOST_VALUES ? [month] : next };
}

/**
 * Choose all months from one to another.
 * @param {[string, string]} ends in any order
 * @param {Map<string, number>} counts
 * @returns {object} a patch of the filters
 */
export function filterOf(ends, counts) {
  const [first, last] = [...ends].sort();
  const within = [...counts.keys()].filter((month) => month >= first && month <= last).sort();
  if (within.length <= MOST_VALUES) return { months: within, after: null, before: null };
  return { months: null, after: first, before: monthAfter(last) };
}

function monthAfter(month) {
  const [year, number] = month.split("-").map(Number);
  return number === 12 ? `${String(year + 1).padStart(4, "0")}-01` : `${month.slice(0, 4)}-${String(number + 1).padStart(2, "0")}`;
}
