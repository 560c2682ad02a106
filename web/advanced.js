// Folds rarely changed widgets of this pack's nodes in the classic canvas, as Nodes 2.0 does by
// itself: the page's own "Show Advanced" in a node's menu unfolds them.
import { app } from "../../scripts/app.js";
import { after, isOurs } from "./parts.js";

const ALWAYS = "Comfy.Node.AlwaysShowAdvancedWidgets";
const NO_ROOM = () => [0, -4]; // the page adds 4 between two widgets

/** The node's rarely changed widgets, by what its schema says. */
const rare = (node) => node.widgets?.filter((widget) => widget.options?.advanced) ?? [];

/** Makes a widget one that folds, and takes no room while it is folded. */
function fold(node, widget) {
  const own = widget.computeSize;
  widget.advanced = true;
  const get = () => (node.showAdvanced ? own : NO_ROOM);
  Object.defineProperty(widget, "computeSize", { get, set() {}, configurable: true });
}

app.registerExtension({
  name: "AttnDreamBooth.Advanced",
  nodeCreated(node) {
    if (!isOurs(node) || !rare(node).length) return;
    for (const widget of rare(node)) fold(node, widget);
    if (app.extensionManager?.setting?.get(ALWAYS)) node.showAdvanced = true;
    let saved = false;
    queueMicrotask(() => saved || node.setSize([node.size[0], node.computeSize()[1]]));
    after(node, "onConfigure", () => {
      saved = true; // its size, too
      // a wire that goes into one would end nowhere
      const wired = node.inputs?.filter((slot) => slot.link != null).map((s) => s.widget?.name);
      if (rare(node).some((widget) => wired?.includes(widget.name))) node.showAdvanced = true;
    });
  },
});
