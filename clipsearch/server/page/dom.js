/** Elements, made without HTML strings: whatever comes from the library is text. */

/** @typedef {Node | string | number | null | undefined | false | Child[]} Child */

const PROPERTIES = new Set(["value", "checked", "disabled", "indeterminate", "open", "selected", "scrollTop"]);

/**
 * Make an element.
 * @param {string} tag
 * @param {Record<string, unknown>} [props] attributes; `onclick` and the like are listeners, `style` is an object of
 *   CSS properties, `true` is an empty attribute; null, undefined and false leave an attribute out
 * @param {...Child} children texts become text nodes; null, undefined and false are left out
 * @returns {HTMLElement}
 */
export function h(tag, props = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(props)) setProp(element, name, value);
  element.append(...nodes(children));
  return element;
}

/**
 * Replace what an element holds.
 * @param {Element} element
 * @param {...Child} children
 */
export function fill(element, ...children) {
  element.replaceChildren(...nodes(children));
}

const SHAPES = {
  search: "M10.5 4a6.5 6.5 0 1 0 0 13 6.5 6.5 0 0 0 0-13zM15.3 15.3 20 20",
  close: "M6 6l12 12M18 6 6 18",
  picture: "M4 5h16v14H4zM4 16l5-5 4 4 3-3 4 4M15.5 9.5h.01",
  filter: "M4 6h16M7 12h10M10 18h4",
  grid: "M4 4h7v7H4zM13 4h7v7h-7zM4 13h7v7H4zM13 13h7v7h-7z",
  calendar: "M4 6h16v14H4zM4 10h16M8 3v4M16 3v4",
  map: "M12 21s7-6.2 7-11.5a7 7 0 1 0-14 0C5 14.8 12 21 12 21zM12 12a2.5 2.5 0 1 0 0-5 2.5 2.5 0 0 0 0 5z",
  stack: "M4 9h16v11H4zM6 6h12M8 3h8",
  menu: "M12 5a.5.5 0 1 0 0 1 .5.5 0 0 0 0-1zM12 11.5a.5.5 0 1 0 0 1 .5.5 0 0 0 0-1zM12 18a.5.5 0 1 0 0 1 .5.5 0 0 0 0-1z",
  check: "M5 12.5l4.5 4.5L19 7.5",
  more: "M12 5v14M5 12h14",
  less: "M5 12h14",
  like: "M2.5 16V2.5H16M7 7h14.5v14.5H7zM14.25 9.5v9.5M9.5 14.25H19",
  unlike: "M2.5 16V2.5H16M7 7h14.5v14.5H7zM9.5 14.25H19",
  left: "M15 5l-7 7 7 7",
  right: "M9 5l7 7-7 7",
  down: "M6 9l6 6 6-6",
  copy: "M9 9h11v11H9zM5 15H4V4h11v1",
  info: "M12 3a9 9 0 1 0 0 18 9 9 0 0 0 0-18zM12 11v6M12 7.5h.01",
  download: "M12 4v11M7 11l5 5 5-5M4 20h16",
  tag: "M4 4h8l8 8-8 8-8-8zM8.5 8.5h.01",
  compare: "M4 5h7v14H4zM13 5h7v14h-7z",
  warning: "M12 4 2.5 20h19zM12 10v5M12 17.5h.01",
  text: "M5 6h14M5 10h14M5 14h14M5 18h8",
  refresh: "M20 12a8 8 0 1 1-2.5-5.8M20 3v4h-4",
  help: "M12 3a9 9 0 1 0 0 18 9 9 0 0 0 0-18zM9.5 9.5a2.5 2.5 0 1 1 3.5 2.3c-.7.3-1 .8-1 1.7M12 17h.01",
  trash: "M5 7h14M9 7V4h6v3M7 7l1 13h8l1-13",
  edit: "M4 20h4L19 9l-4-4L4 16z",
};

/**
 * Make an icon. It says nothing to a screen reader: name the button that holds it.
 * @param {keyof typeof SHAPES} name
 * @returns {SVGElement}
 */
export function icon(name) {
  if (!drawn.has(name)) drawn.set(name, draw(name));
  return drawn.get(name).cloneNode(true);
}

const drawn = new Map();

function draw(name) {
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  for (const [key, value] of [["viewBox", "0 0 24 24"], ["class", "icon"], ["aria-hidden", "true"]]) {
    svg.setAttribute(key, value);
  }
  const path = document.createElementNS(svg.namespaceURI, "path");
  path.setAttribute("d", SHAPES[name]);
  svg.append(path);
  return svg;
}

/**
 * Make a button of an icon; its name is shown as a tooltip and read out.
 * @param {keyof typeof SHAPES} shape
 * @param {string} name
 * @param {(event: MouseEvent) => void} onclick
 * @param {Record<string, unknown>} [props]
 */
export function iconButton(shape, name, onclick, props = {}) {
  const all = { type: "button", class: "icon-button", "aria-label": name, title: name, onclick, ...props };
  return h("button", all, icon(shape));
}

/**
 * Make the options of a `select`.
 * @param {[string, string][]} options values and what they are called
 * @param {string} chosen
 */
export function choices(options, chosen) {
  return options.map(([value, label]) => h("option", { value, selected: value === chosen }, label));
}

function setProp(element, name, value) {
  if (value === null || value === undefined || value === false) return;
  if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
  else if (name === "style") for (const [key, each] of Object.entries(value)) element.style.setProperty(key, each);
  else if (PROPERTIES.has(name)) element[name] = value;
  else element.setAttribute(name, value === true ? "" : String(value));
}

function nodes(children) {
  return children.flat(Infinity).filter((child) => child !== null && child !== undefined && child !== false);
}
