// Subgraphs: what a training inside says, as a badge of the subgraph's node. The page shows the
// text under the node inside alone, and lets nobody add a widget to a subgraph's node.
import { app } from "../../scripts/app.js";
import { api } from "../../scripts/api.js";
import { isOurs, nodesAt } from "./parts.js";
import { plain } from "./plain_text.js";

const badges = new WeakMap(); // of subgraphs' nodes

/** Puts a line over a node, in the place of the one before. */
function tell(node, line) {
  const before = badges.get(node);
  const badge = new window.LGraphBadge({ text: line });
  badges.set(node, badge);
  node.badges = [...node.badges.filter((each) => each !== before), badge];
  const change = { property: "badges", oldValue: before, newValue: node.badges };
  const type = "node:property:changed"; // what Nodes 2.0 listens to
  node.graph?.trigger?.(type, { type, nodeId: node.id, ...change });
  node.graph?.setDirtyCanvas?.(true, true);
}

app.registerExtension({
  name: "AttnDreamBooth.Subgraphs",
  setup() {
    if (!window.LGraphBadge) return;
    api.addEventListener("progress_text", ({ detail: { nodeId, text } }) => {
      const nodes = nodesAt(nodeId);
      if (!text || !isOurs(nodes.pop())) return;
      nodes.forEach((node) => tell(node, plain(text.split("\n")[0].trim())));
    });
  },
});
