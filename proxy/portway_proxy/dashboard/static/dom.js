// Elements from values. Whatever is put in is text: nothing here, or anywhere in these pages, reads a string as HTML.

const SVG = "http://www.w3.org/2000/svg";

function fill(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else element.setAttribute(name, value === true ? "" : String(value));
  }
  element.append(
    ...children.flat(Infinity).filter((child) => child !== null && child !== undefined && child !== false),
  );
  return element;
}

/** Return an element; an attribute `onclick` is a listener, and one that is null or false is left out. */
export const h = (tag, attributes = {}, ...children) => fill(document.createElement(tag), attributes, children);

/** Return an element of SVG, as `h` makes one of HTML. */
export const s = (tag, attributes = {}, ...children) => fill(document.createElementNS(SVG, tag), attributes, children);

/** Put `children` in the place of what `element` holds. */
export function put(element, ...children) {
  element.replaceChildren(
    ...children.flat(Infinity).filter((child) => child !== null && child !== undefined && child !== false),
  );
}

/** Write `text` if it is another one: an unchanged node costs no layout, and no screen reader hears it twice. */
export function write(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

/** Return a word in a coloured pill, whose `tone` is ok, warn, bad, quiet or accent. */
export const pill = (tone, text) => h("span", { class: `pill ${tone}` }, text);

/** Return what is shown where there is nothing to show, and why. */
export const empty = (title, text) =>
  h("div", { class: "empty" }, h("p", { class: "strong" }, title), h("p", {}, text));
