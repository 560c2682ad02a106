// While a node trains it has a button that ends the present stage with what it has learned: the
// concept goes on over the wires, as after a training of so many steps.
import { api } from "../../scripts/api.js";
import { app } from "../../scripts/app.js";
import { addStyle, element, ENDS, isOurs, nodesAt } from "./parts.js";

const STEP = /^step \d/; // what a node says while it trains
const ENDED = "was ended at"; // and of its stages that ended early
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
    if (place < 0) return;
    widget.onRemove?.();
    node.widgets.splice(place, 1);
    node.setSize([node.size[0], Math.max(node.size[1] - grown, node.computeSize()[1])]);
    node.graph?.setDirtyCanvas?.(true, true);
  };
}

function show(id, node, ended) {
  if (shown?.id === id && shown.ended === ended) return;
  hide();
  const press = async (button) => {
    button.disabled = true; // until the next stage
    button.textContent = "Ends after this step";
    const body = JSON.stringify({ node: id });
    const answer = await api.fetchApi("/attndreambooth/end_stage", { method: "POST", body });
    if (!answer.ok) button.textContent = await answer.text();
  };
  shown = { id, ended, remove: addButton(node, press) };
}

function hide() {
  shown?.remove();
  shown = null;
}

function follow(id, text) {
  const node = nodesAt(id).pop();
  if (STEP.test(text) && isOurs(node)) show(id, node, text.split(ENDED).length);
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
