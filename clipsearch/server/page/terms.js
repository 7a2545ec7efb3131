/** The terms of a search, and the query language in which they are written: the reading side of docs/queries.md. */

/**
 * @typedef {object} Term
 * @property {"text" | "id" | "image" | "query"} kind
 * @property {string | number} value the words, the id of an item, the URL of a picture, UPLOAD, or a query with operators
 * @property {1 | -1} sign
 * @property {number} weight above 0
 */

const SIGN = /([+-])(?=\s|$)/y;
const WEIGHT = /(\d+(?:\.\d*)?|\.\d+):/y;
const KIND = /(text|image|id):/y;
const QUOTED = /"((?:[^"\\]|\\.)*)"/sy;
const QUOTED_ALL = /"(?:[^"\\]|\\.)*"/gs;
const WORDS = /[^\s"]+(?:\s+(?![+-](?:\s|$))[^\s"]+)*/y;
const SPACE = /\s*/y;

const SYNTAX = /(^|\s)[+-](\s|$)|"|^\s*(\d*\.?\d+:(?!\d)|(text|image|id):)/;
const AMBIGUOUS = /^\s*((\d+(\.\d*)?|\.\d+):|(text|image|id):|\.{0,2}[/\\]|~[/\\]|[a-z]:[/\\]|[a-z]+:\/\/)|^\S+\.\w+$/i;

/** What shows operators or filters, outside quotes. */
const OPERATOR = /(?<![^\s()"（）“”])(and|or|not)(?![^\s()"（）“”])/i;
const MARK = /[("（“]|[a-z]:\S/;
const FILTER = /(^|\s)(?!text:|image:|id:|https?:)[a-z-]+:\S/;

const URL_OF_PICTURE = /^https?:\/\/\S+$/i;

/** The value of the term that stands for the picture sent along. */
export const UPLOAD = "upload";

/**
 * Make a term.
 * @param {Term["kind"]} kind
 * @param {Term["value"]} value
 * @param {1 | -1} [sign]
 * @param {number} [weight]
 * @returns {Term}
 */
export function makeTerm(kind, value, sign = 1, weight = 1) {
  return { kind, value, sign, weight };
}

/**
 * Tell whether words may be of the query language rather than plain.
 * @param {string} text
 */
export function hasSyntax(text) {
  return SYNTAX.test(text) || isGrouped(text);
}

/**
 * Tell whether a text may have operators: whether it has, the server knows.
 * @param {string} text
 */
export function isGrouped(text) {
  const bare = text.replace(QUOTED_ALL, '"');
  return OPERATOR.test(bare) ? MARK.test(bare) : /(^|\s)[+-]\s/.test(bare) && FILTER.test(bare);
}

/**
 * Tell whether a search is shown as the text that it is, rather than as chips.
 * @param {Term[]} terms
 */
export function isPlain([first, ...rest]) {
  return !rest.length && ["text", "query"].includes(first?.kind) && first.sign > 0 && first.weight === 1;
}

/**
 * Read a query.
 * @param {string} text
 * @returns {Term[] | null} null where it is not such a query; the server says what is wrong with it, or knows its operators
 */
export function parse(text) {
  if (isGrouped(text)) return null;
  const terms = [];
  let at = skip(text, 0);
  while (at < text.length) {
    const sign = match(SIGN, text, at);
    if (!sign && terms.length) return null;
    if (sign) at = skip(text, at + 1);
    if (match(SIGN, text, at)) return null;
    const read = readTerm(text, at);
    if (!read) return null;
    terms.push({ ...read.term, sign: sign?.[1] === "-" ? -1 : 1 });
    at = skip(text, read.end);
  }
  return terms.length ? terms : null;
}

/**
 * Write a query as `parse` and the server read it.
 * @param {Term[]} terms
 * @returns {string}
 */
export function write(terms) {
  if (isPlain(terms) && terms[0].kind === "query") return terms[0].value;
  return terms.map(writeSigned).join(" ");
}

/**
 * Return which term stands at a column of what `write` makes.
 * @param {Term[]} terms
 * @param {number} column counted from 1
 */
export function termAt(terms, column) {
  let end = 0;
  return terms.findIndex((term, index) => {
    end += writeSigned(term, index).length + 1;
    return column <= end;
  });
}

function writeSigned(term, index) {
  return writeSign(term, index) + writeTerm(term);
}

function writeSign(term, index) {
  if (term.sign < 0) return "- ";
  return index ? "+ " : "";
}

function writeTerm({ kind, value, weight }) {
  const size = weight === 1 ? "" : `${weight}:`;
  if (kind === "id") return `${size}id:${value}`;
  if (kind === "query") return `${size}(${value})`;
  const quoted = `"${value.replace(/[\\"]/g, "\\$&")}"`;
  if (kind === "image") return `${size}image:${value === UPLOAD ? value : quoted}`;
  // A weight would else be read from within the quotes.
  return AMBIGUOUS.test(value) ? `${weight}:text:${quoted}` : size + quoted;
}

function readTerm(text, start) {
  const weight = match(WEIGHT, text, start);
  let at = weight ? start + weight[0].length : start;
  const kind = match(KIND, text, at);
  at = skip(text, kind ? at + kind[0].length : at);
  const quoted = match(QUOTED, text, at);
  const words = quoted ?? match(WORDS, text, at);
  if (!words) return null;
  const content = quoted ? quoted[1].replace(/\\(.)/gs, "$1") : words[0];
  const term = buildTerm(weight?.[1], kind?.[1], content);
  return term && { term, end: at + words[0].length };
}

/** Make a term; a weight and a kind may stand within the quotes too. */
function buildTerm(weight, kind, content) {
  if (!weight && !kind) {
    const found = match(WEIGHT, content, 0);
    if (found) [weight, content] = [found[1], content.slice(found[0].length).trim()];
  }
  if (!kind) {
    const found = match(KIND, content, 0);
    if (found) [kind, content] = [found[1], content.slice(found[0].length).trim()];
  }
  const size = weight ? Number(weight) : 1;
  if (!(size > 0) || !content.trim()) return null;
  if (kind === "id") return /^\d{1,15}$/.test(content) ? makeTerm("id", Number(content), 1, size) : null;
  if (kind === "image" || (!kind && URL_OF_PICTURE.test(content))) return makeTerm("image", content, 1, size);
  return makeTerm("text", content, 1, size);
}

function match(pattern, text, at) {
  pattern.lastIndex = at;
  return pattern.exec(text);
}

function skip(text, at) {
  return at + match(SPACE, text, at)[0].length;
}
