/** What is known of an item: date, camera, place, words, tags. */

import { copyText } from "./clipboard.js";
import { fill, h, iconButton } from "./dom.js";
import { formatDate, t } from "./i18n.js";
import { createTagEditor } from "./tag_editor.js";
import { formatPercent } from "./tile.js";

/** Kilometres around a picture that count as near. */
const NEAR = 5;
const DATE = { dateStyle: "full", timeStyle: "short" };

/** @param {object} ctx */
export function createDetails(ctx) {
  const element = h("aside", { class: "details", id: "details", "aria-label": t("details") });

  let shown = null;

  function show(item) {
    shown = item;
    fill(element,
      confidence(item), facts(item),
      path(item, ctx), place(item, ctx), createTagEditor(ctx, item),
      words(t("caption"), item.caption), words(t("recognised"), item.recognised?.map((line) => line.text).join("\n")),
      words(t("text"), item.text), copies(item, ctx), metadata(item), why(item, ctx));
  }

  // Whether tags can be changed may be known only after an item is shown.
  ctx.store.subscribe((state, before) => state.capabilities !== before.capabilities && shown && show(shown));
  return { element, show };
}

function confidence({ confidence, score }) {
  if (typeof confidence !== "number") return null;
  const percent = formatPercent(confidence);
  return section(t("confidence"),
    h("div", { class: "row" },
      h("span", { class: "meter wide", "aria-hidden": "true" }, h("span", { style: { width: `${confidence * 100}%` } })),
      h("span", {}, percent), h("span", { class: "muted" }, t("scoreOf", { score: score.toFixed(3) }))));
}

function facts({ taken_at: taken, camera, width, height }) {
  const rows = [
    taken && [t("taken"), formatDate(taken, DATE)],
    camera && [t("camera"), camera],
    width && [t("size"), t("pixels", { width, height }) + megapixels(width * height)],
  ].filter(Boolean);
  return rows.length > 0 && h("dl", { class: "facts" }, rows.flatMap(([name, value]) => [h("dt", {}, name), h("dd", {}, value)]));
}

function megapixels(count) {
  return count < 100_000 ? "" : ` · ${(count / 1e6).toFixed(1)} MP`;
}

function path({ path, key }, { toast }) {
  const copy = iconButton("copy", t("copyPath"), async () => {
    toast(t((await copyText(path || key)) ? "copied" : "copyFailed"));
  }, { class: "icon-button small" });
  return section(t("file"), h("div", { class: "row between top" }, h("span", { class: "path" }, breakable(path || key)), copy));
}

/** Long paths are broken after a slash. */
function breakable(path) {
  return path.split(/(?<=[/\\])/).flatMap((part) => [part, h("wbr")]);
}

function place({ latitude, longitude }, { actions }) {
  if (typeof latitude !== "number" || typeof longitude !== "number") return null;
  const near = () => actions.go({ filters: { near: { latitude, longitude, km: NEAR } }, terms: [], show: "photos", view: null });
  return section(t("place"), h("div", { class: "row between" },
    h("span", {}, `${latitude.toFixed(4)}, ${longitude.toFixed(4)}`),
    h("button", { type: "button", class: "link", onclick: near }, t("nearby"))));
}

function words(title, text) {
  return text ? section(title, h("p", { class: "words" }, text)) : null;
}

function copies({ also }, { actions }) {
  if (!also?.length) return null;
  const link = ({ id, path }) => h("button", { type: "button", class: "link path", onclick: () => actions.open(id) }, breakable(path));
  return section(t("copiesTitle"), also.map(link));
}

function metadata({ metadata }) {
  const entries = Object.entries(metadata ?? {});
  if (!entries.length) return null;
  const rows = entries.flatMap(([name, value]) => [h("dt", {}, name), h("dd", {}, typeof value === "string" ? value : JSON.stringify(value))]);
  return section(t("metadata"), h("dl", { class: "facts" }, rows));
}

/** Why a hit stands where it does, asked for when it is opened. */
function why({ id }, { store }) {
  const { results } = store.get();
  const position = results?.isRanked ? results.positionOf(id) : -1;
  if (position < 0) return null;
  const body = h("div", { class: "words" });
  const ontoggle = async () => fill(body, await results.explain(position).then(explained, (problem) => problem.message));
  return h("details", { class: "detail", ontoggle }, h("summary", {}, t("why")), body);
}

function explained({ terms, words, filters, above_next: reason }) {
  return [
    ...terms.map((term) => h("p", {}, [
      `${term.weight < 0 ? "− " : ""}${term.term}`, term.score.toFixed(3),
      term.confidence !== null && formatPercent(term.confidence), t("placed", { n: term.place }),
    ].filter(Boolean).join(" · "))),
    ...words.map(({ text, spans }) => h("p", {}, marked(text, spans))),
    filters.length > 0 && h("p", {}, filters.join("; ")), reason && h("p", {}, `${t("above")} ${reason}`),
  ];
}

/** Mark words in a text; places count characters, not UTF-16. */
function marked(text, spans) {
  const letters = [...text];
  const part = (start, end) => letters.slice(start, end).join("");
  return spans.flatMap(([start, end], i) => [part(spans[i - 1]?.[1] ?? 0, start), h("mark", {}, part(start, end))])
    .concat(part(spans.at(-1)[1]));
}

function section(title, ...rest) {
  return h("section", { class: "detail" }, h("h3", {}, title), rest);
}
