// What a node said last (what is kept, what to write in prompts) and its last picture stay under
// it, in the workflow that its job was queued from. The page takes them away: the text when a job
// ends (since front end 1.57), both when Undo makes the nodes anew or another tab is opened. And
// while another is open, it would show them on the node of that number there.
import { app } from "../../scripts/app.js";
import { api } from "../../scripts/api.js";
import { jobOf, openWorkflow } from "./jobs.js";
import { ENDS, isOurs, nodesAt } from "./parts.js";
import { forPage } from "./plain_text.js";

const TEXT = "progress_text";
const PICTURE = "b_preview_with_metadata";
const RENDERER = "Comfy.VueNodes.Enabled"; // a setting
const kept = new WeakMap(); // by workflow: by execution id, the node's class, text and picture
const LONGEST = 5000; // milliseconds that the page takes to make the nodes of a workflow
let settling = 0; // a timer
let opening = false; // the page makes the nodes of another workflow than the one it calls open

/** Keeps what a node of ours says; whether its workflow is open. Undefined: it is not ours. */
function keep(id, job, part) {
  const comfyClass = job?.classes.get(id) ?? nodesAt(id).pop()?.comfyClass;
  if (!isOurs({ comfyClass })) return undefined;
  const workflow = job?.workflow ?? openWorkflow();
  if (!kept.has(workflow)) kept.set(workflow, new Map());
  const said = kept.get(workflow);
  said.set(id, { ...said.get(id), comfyClass, ...part });
  return !opening && workflow === openWorkflow();
}

// No listener of the page could be kept from hearing it.
const tell = api.dispatchCustomEvent;
api.dispatchCustomEvent = function (type, detail) {
  const text = type === TEXT && detail?.text;
  const part = text ? { text } : type === PICTURE ? { picture: detail } : null;
  if (!part) return tell.call(this, type, detail);
  const id = `${detail.displayNodeId ?? detail.nodeId}`;
  const here = keep(id, jobOf(detail.prompt_id ?? detail.jobId), part);
  if (here === false) return false;
  return tell.call(this, type, here && text ? { ...detail, text: forPage(text) } : detail);
};

/** A node that runs anew has said nothing yet. */
function forget(id) {
  const said = kept.get(jobOf()?.workflow ?? openWorkflow());
  if (said?.has(id)) said.set(id, { ...said.get(id), text: null });
}

/** Tells the page again what was said in the workflow that is open. */
function tellAgain() {
  for (const [id, { comfyClass, text, picture }] of kept.get(openWorkflow()) ?? []) {
    const node = nodesAt(id).pop();
    if (node?.comfyClass !== comfyClass) continue;
    // the page would seek one of the root in the subgraph that is looked into
    const found = id.includes(":") || node.graph === app.canvas?.graph;
    if (text && found) tell.call(api, TEXT, { nodeId: id, text: forPage(text) });
    if (picture) tell.call(api, PICTURE, picture);
  }
}

/** Soon the page has opened a workflow, or failed to. */
function settle(delay) {
  clearTimeout(settling);
  settling = setTimeout(() => {
    opening = false;
    tellAgain();
  }, delay);
}

app.registerExtension({
  name: "AttnDreamBooth.LastWords",
  setup() {
    api.addEventListener("executing", ({ detail }) => forget(`${detail}`));
    app.ui?.settings?.addEventListener?.(`${RENDERER}.change`, () => setTimeout(tellAgain));
    // after the page's own listeners
    ENDS.forEach((end) => api.addEventListener(end, () => setTimeout(tellAgain)));
  },
  beforeConfigureGraph() {
    opening = true;
    settle(LONGEST);
  },
  // in the next turn the page calls the one open whose nodes it has made
  afterConfigureGraph: () => settle(0),
});
