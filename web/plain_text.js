// A text under a node is sent as HTML, with `<` and the signs of Markdown as `&lt;` and `&#42;`
// (nodes/host/ui/status.py): so the classic canvas needs it before front end 1.54.8, and Nodes 2.0
// always. Where nothing reads it as HTML it is to be plain.

const SINCE = [1, 54, 8]; // the classic canvas shows a text as it is

/** A text as it was before it was made HTML. */
export const plain = (text) =>
  text.replace(/&(lt|gt|#(\d+));/g, (_, name, code) =>
    code ? String.fromCharCode(code) : { lt: "<", gt: ">" }[name],
  );

/** A text as this page is to be told it. */
export function forPage(text) {
  const version = `${window.__COMFYUI_FRONTEND_VERSION__ ?? "0"}`.split(".").map(Number);
  const differs = SINCE.findIndex((number, place) => number !== (version[place] ?? 0));
  const asItIs = differs < 0 || version[differs] > SINCE[differs];
  return asItIs && !window.LiteGraph?.vueNodesMode ? plain(text) : text;
}
