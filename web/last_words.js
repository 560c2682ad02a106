// The last words of a node (what is kept, what to write in prompts) stay under it. Since front end
// 1.57 the page takes the text away when a job ends, which is when they are told.
import { app } from "../../scripts/app.js";
import { api } from "../../scripts/api.js";
import { ENDS, isOurs, lives, nodesAt } from "./parts.js";

const SHOWN = "progressText"; // the page's widget for such a text

const told = new Map(); // by execution id: the node, and what it said last

/** Tells the page again what it has taken away; not of a graph that is no longer open. */
function repeat() {
  for (const [nodeId, { node, text }] of told) {
    const seen = lives(node) && node.graph === app.canvas?.graph;
    if (!seen || node.widgets?.some((widget) => widget.type === SHOWN)) continue;
    api.dispatchCustomEvent("progress_text", { nodeId, text });
  }
  told.clear();
}

app.registerExtension({
  name: "AttnDreamBooth.LastWords",
  setup() {
    api.addEventListener("progress_text", ({ detail: { nodeId, text } }) => {
      const node = nodesAt(nodeId).pop();
      if (text && isOurs(node)) told.set(`${nodeId}`, { node, text });
    });
    // after the page's own listeners
    ENDS.forEach((end) => api.addEventListener(end, () => setTimeout(repeat)));
  },
});
