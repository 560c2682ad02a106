// While a node trains it has a button that ends the present stage with what it has learned: the
// concept goes on over the wires, as after a training of so many steps.
import { api } from "../../scripts/api.js";
import { app } from "../../scripts/app.js";
import { addStyle, element, ENDS, isOurs, lives, nodesAt } from "./parts.js";

const STEP = /^step \d/; // what a node says while it trains
const HEIGHT = 44; // with the margins that the page takes off

let shown = null; // the button of the node that trains

/** Puts a button under a node's widgets, neither saved nor sent; how to take it away. */
function addButton(node, press) {
  addStyle();
  const button = element("button", "", "End this stage");
  button.type = "button";
  button.title = "Stop training here and go on with what was learned. Cancel would stop the graph.";
  button.addEventListener("click", () => press(button));
  const bar = element("div", "attndb-bar attndb-end", button);
  const before = node.size[1];
  const widget = node.addDOMWidget("end_stage", "attndb_end_stage", bar, {
    serialize: false,
    getMinHeight: () => HEIGHT,
    getMaxHeight: () => HEIGHT,
  });
  Object.assign(widget, { serialize: false, label: "" });
  node.setSize([node.size[0], Math.max(before, node.computeSize()[1])]);
  const grown = node.size[1] - before;
  return () => {
    const place = node.widgets?.indexOf(widget) ?? -1;
    if (place < 0 || !lives(node)) return; // it went with its node
    widget.onRemove?.();
    node.widgets.splice(place, 1);
    node.setSize([node.size[0], Math.max(node.size[1] - grown, node.computeSize()[1])]);
    node.graph?.setDirtyCanvas?.(true, true);
  };
}

/** Also of a node that took the place of the one before: by Undo, or by opening the workflow again,
 * the page makes all nodes anew. */
function show(id, node, stage) {
  if (shown?.node === node && shown.id === id && shown.stage === stage) return;
  hide();
  const press = async (button) => {
    button.disabled = true; // until the next stage
    button.textContent = "Ends after this step";
    const body = JSON.stringify({ node: id });
    const request = { method: "POST", body };
    const answer = await api.fetchApi("/attndreambooth/end_stage", request).catch(() => null);
    if (answer?.ok) return;
    button.textContent = (await answer?.text()) ?? "The server does not answer: try again";
    button.disabled = false;
  };
  shown = { id, node, stage, remove: addButton(node, press) };
}

function hide() {
  shown?.remove();
  shown = null;
}

/** What tells a node's stages apart: their title stands before the loss, the last line. */
function stageOf(text) {
  const lines = text.split("\n");
  return lines.length > 2 ? lines.at(-2) : "";
}

function follow(id, text) {
  const node = nodesAt(id).pop();
  if (STEP.test(text) && isOurs(node)) show(id, node, stageOf(text));
  else if (shown?.id === id) hide(); // it encodes, or it is done
}

app.registerExtension({
  name: "AttnDreamBooth.EndStage",
  setup() {
    api.addEventListener("progress_text", ({ detail: { nodeId, text } }) =>
      follow(`${nodeId}`, text ?? ""),
    );
    api.addEventListener("executing", ({ detail }) => `${detail}` !== shown?.id && hide());
    ENDS.forEach((end) => api.addEventListener(end, hide));
  },
});
