// What the two picture boxes share: the frame, the pictures in it, the choices of a combo widget.
// Both renderers of the page show a DOM widget; nothing here draws on the canvas.
import { app } from "../../scripts/app.js";
import { api } from "../../scripts/api.js";

const STYLE = `
.attndb-box { display: flex; flex-direction: column; gap: 4px; width: 100%; height: 100%;
  min-height: 0; box-sizing: border-box; padding: 4px; border-radius: 6px; overflow: hidden;
  font: 12px/1.35 sans-serif; color: var(--input-text, #ddd);
  background: var(--comfy-input-bg, #222); border: 1px dashed var(--border-color, #4e4e4e); }
/* the form of a graph (app mode) gives it no height of its own, a node does */
.attndb-box:not([data-node-id] *, .dom-widget *) { min-height: var(--attndb-height); }
.attndb-box.attndb-over { border-color: var(--p-primary-color, #60a5fa); }
.attndb-bar { display: flex; align-items: flex-start; gap: 8px; flex: none; }
.attndb-bar button { flex: none; padding: 2px 8px; border-radius: 4px; cursor: pointer;
  font: inherit; color: inherit; background: var(--comfy-menu-bg, #353535);
  border: 1px solid var(--border-color, #4e4e4e); }
.attndb-bar button:disabled { opacity: 0.5; cursor: default; }
.attndb-end { width: 100%; height: 100%; align-items: center; justify-content: center; }
.attndb-says { flex: 1; min-width: 0; max-height: 34px; overflow: auto; padding-top: 3px;
  overflow-wrap: anywhere; color: var(--descrip-text, #999); }
.attndb-says.attndb-wrong { color: var(--error-text, #ff6b6b); }
.attndb-pictures { display: flex; flex-wrap: wrap; align-content: flex-start; gap: 4px; flex: 1;
  min-height: 0; overflow-y: auto; contain: size; }
.attndb-picture { flex: none; width: 64px; height: 64px; border-radius: 4px; overflow: hidden;
  display: flex; align-items: center; justify-content: center; text-align: center;
  font-size: 11px; overflow-wrap: anywhere; background: var(--comfy-menu-bg, #353535); }
.attndb-picture img { width: 100%; height: 100%; object-fit: cover; }
.attndb-picture.attndb-broken { border: 1px solid var(--error-text, #ff6b6b); }
.attndb-card { width: 84px; height: auto; flex-direction: column; cursor: pointer; padding: 0;
  border: 2px solid transparent; color: inherit; font: inherit; justify-content: flex-start; }
.attndb-card .attndb-picture { width: 80px; height: 64px; border-radius: 0; }
.attndb-card span { width: 100%; padding: 1px 2px; box-sizing: border-box; font-size: 11px;
  white-space: nowrap; overflow: hidden; text-overflow: ellipsis; }
.attndb-card[aria-pressed="true"] { border-color: var(--p-primary-color, #60a5fa); }
`;

/** What the page is told when a job ends. */
export const ENDS = ["execution_success", "execution_interrupted", "execution_error"];

/** An element with a class, and children or text. */
export function element(tag, className, ...children) {
  const made = document.createElement(tag);
  made.className = className;
  made.append(...children);
  return made;
}

/** Calls `more` after a method that may be there already. */
export function after(object, method, more) {
  const before = object[method];
  object[method] = function (...given) {
    const result = before?.apply(this, given);
    more.apply(this, given);
    return result;
  };
}

/** Whether it is a node of this pack. */
export const isOurs = (node) => Boolean(node?.comfyClass?.startsWith("AttnDB"));

/** The nodes of an execution id, `5:3:8`: from the outermost subgraph's node to the one inside. */
export function nodesAt(id) {
  const found = [];
  let graph = app.rootGraph ?? app.graph;
  for (const part of `${id}`.split(":")) {
    const node = graph?.nodes?.find((each) => `${each.id}` === part);
    if (!node) return [];
    found.push(node);
    graph = node.subgraph;
  }
  return found;
}

/** Whether a node is in the graph that is open. When another workflow is opened, the page tells the
 * nodes inside a subgraph nothing. */
export function lives(node) {
  const { graph } = node;
  const root = app.rootGraph ?? app.graph;
  const open = graph === root || !root?.subgraphs || root.subgraphs.get(graph?.id) === graph;
  return open && graph?.getNodeById?.(node.id) === node;
}

const owners = new WeakMap(); // of boxes: their nodes

/** Nodes 2.0 goes on showing the box of a node that is gone when another workflow has a node of the
 * same id: this node's box goes where that one is. */
function takePlace(node, box) {
  const look = () => {
    for (const shown of document.querySelectorAll(".attndb-box")) {
      const owner = owners.get(shown);
      const same = owner !== node && String(owner?.id) === String(node.id);
      if (same && !lives(owner) && owner.comfyClass === node.comfyClass) shown.replaceWith(box);
    }
  };
  [0, 200, 1000].forEach((delay) => setTimeout(look, delay)); // before and after the page draws it
}

/** The pack's styles are in the page. */
export function addStyle() {
  if (document.getElementById("attndb-style")) return;
  const style = element("style", "", STYLE);
  style.id = "attndb-style";
  document.head.append(style);
}

/** Puts a box under a node's widgets; what it shows is neither saved nor sent. */
export function addBox(node, name, label, box, height) {
  addStyle();
  box.addEventListener("wheel", (event) => {
    const list = box.querySelector(".attndb-pictures");
    if (list.scrollHeight > list.clientHeight) event.stopPropagation();
  });
  box.style.setProperty("--attndb-height", `${height}px`);
  const widget = node.addDOMWidget(name, `attndb_${name}`, box, {
    serialize: false,
    getMinHeight: () => height,
  });
  Object.assign(widget, { serialize: false, label });
  owners.set(box, node);
  after(node, "onAdded", () => takePlace(node, box));
  after(node, "onConfigure", () => takePlace(node, box));
  const [width, needed] = node.computeSize();
  node.setSize([Math.max(node.size[0], width), Math.max(node.size[1], needed)]);
  return widget;
}

/** A small picture; where the server has none, what it says instead. */
export function picture(address, name, onBroken = () => {}) {
  const image = element("img", "");
  Object.assign(image, { alt: name, title: name, draggable: false, loading: "lazy" });
  const frame = element("div", "attndb-picture", image);
  image.addEventListener("error", async () => {
    const answer = await fetch(image.src).catch(() => null);
    const missing = answer?.status === 404;
    const reason = (await answer?.text()) || "the server does not answer";
    frame.replaceChildren(missing ? "no picture" : "cannot be read");
    frame.title = reason;
    frame.classList.toggle("attndb-broken", !missing);
    if (!missing) onBroken(reason);
  });
  image.src = api.apiURL(address);
  return frame;
}

/** The widget of this name. */
export const widgetOf = (node, name) => node.widgets?.find((widget) => widget.name === name);

/** Whether the widget's value comes over a wire. */
export const isLinked = (node, name) =>
  Boolean(node.inputs?.some((input) => input.widget?.name === name && input.link != null));

/** Sets a combo's value as a user's choice: one that can be undone, and is kept when the page is
 * closed. The page looks for changes when a mouse button comes up, which is before a click, and not
 * at all after an upload. */
export function choose(node, widget, value) {
  widget.value = value;
  widget.callback?.(value, app.canvas, node);
  node.graph?.setDirtyCanvas?.(true, true);
  const changes = app.extensionManager?.workflow?.activeWorkflow?.changeTracker;
  if (changes?.captureCanvasState) changes.captureCanvasState();
  else changes?.checkState?.(); // its name before
}

/** Gives a combo more choices, sorted behind its first `fixed` ones; its value stays. */
export function offer(widget, values, fixed = 0) {
  const now = widget.options.values ?? [];
  const kept = now.slice(0, fixed);
  const more = [...new Set(values)].filter((value) => !kept.includes(value)).sort();
  widget.options.values = [...kept, ...more];
}

const nodes = new Set();
let listened = false;

/** Calls `refresh` when something may have changed: after a run, and when the page is looked at
 * again. Ends with the node. */
export function keepFresh(node, refresh) {
  const entry = { node, refresh };
  nodes.add(entry);
  after(node, "onRemoved", () => nodes.delete(entry));
  if (listened) return;
  listened = true;
  const all = () =>
    nodes.forEach((each) => (lives(each.node) ? each.refresh() : nodes.delete(each)));
  api.addEventListener("execution_success", all);
  window.addEventListener("focus", all);
}

/** Calls `each` for every living node that was given to keepFresh. */
export const everyNode = (each) => nodes.forEach((entry) => each(entry.node));
