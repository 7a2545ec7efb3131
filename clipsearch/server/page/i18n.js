/** The words of the page in the language of the browser, or the one that was chosen. */

export const LANGUAGES = { en: "English", zh: "简体中文" };
const CHOICE = "clipsearch.language";

/** The language of the page: "en" or "zh". */
export const language = chosen() ?? preferred();

let words = {};
const plural = new Intl.PluralRules(language);
const number = new Intl.NumberFormat(language);

/** Load the words; before that, `t` returns keys. */
export async function loadWords() {
  ({ words } = await (language === "zh" ? import("./words_zh.js") : import("./words_en.js")));
  document.documentElement.lang = language === "zh" ? "zh-CN" : "en";
}

/**
 * Say something in the language of the page.
 * @param {string} key of words_en.js
 * @param {Record<string, string | number>} [values] what stands for `{name}`; numbers are written with separators, and
 *   `n` chooses between the forms `one` and `other`
 * @returns {string}
 */
export function t(key, values = {}) {
  const found = words[key] ?? key;
  const text = typeof found === "string" ? found : (found[plural.select(values.n)] ?? found.other);
  return text.replace(/\{(\w+)\}/g, (_, name) => written(values[name]));
}

/** @param {string} key @returns {boolean} whether there are words for it */
export function has(key) {
  return key in words;
}

/**
 * Write a date, or a month such as `2024-06`, or a year.
 * @param {string} date local time without a zone, as the API gives it
 * @param {Intl.DateTimeFormatOptions} options
 */
export function formatDate(date, options) {
  const [year, month = 1, day = 1, hour = 0, minute = 0] = date.split(/[-T:]/).map(Number);
  const made = new Date(2000, month - 1, day, hour, minute);
  made.setFullYear(year);
  return new Intl.DateTimeFormat(language, options).format(made);
}

/**
 * Keep a language for later visits, and show the page in it.
 * @param {keyof typeof LANGUAGES} code
 */
export function chooseLanguage(code) {
  localStorage.setItem(CHOICE, code);
  location.reload();
}

function chosen() {
  const kept = localStorage.getItem(CHOICE);
  return kept in LANGUAGES ? kept : null;
}

function preferred() {
  return navigator.languages.map((each) => each.slice(0, 2)).find((each) => each in LANGUAGES) ?? "en";
}

function written(value) {
  return typeof value === "number" ? number.format(value) : String(value ?? "");
}
