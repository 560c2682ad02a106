// What a node said last (what is kept, what to write in prompts) and its last picture stay under
// it, in the workflow that its job was queued from. The page takes them away: the text when a job
// ends (since front end 1.57), both when Undo makes the nodes anew or another tab is opened. And
// while another is open, it would show them on the node of that number there.
import { app } from "../../scripts/app.js";
import { api } from "../../scripts/api.js";
import { jobOf, openWorkflow } from "./jobs.js";
import { ENDS, isOurs, nodesAt } from "./parts.js";

const PICTURE = "b_preview_with_metadata";
const kept = new WeakMap(); // by workflow: by execution id, the node's class, text and picture
let opening = false; // the page makes the nodes of another workflow than the one it calls open

/** Keeps what a node of ours says; whether it is one of the workflow that is open. */
function isHere(id, job, part) {
  const comfyClass = job?.classes.get(id) ?? nodesAt(id).pop()?.comfyClass;
  if (!isOurs({ comfyClass })) return true;
  const workflow = job?.workflow ?? openWorkflow();
  if (!kept.has(workflow)) kept.set(workflow, new Map());
  const said = kept.get(workflow);
  said.set(id, { ...said.get(id), comfyClass, ...part });
  return !opening && workflow === openWorkflow();
}

// No listener of the page could be kept from hearing it.
const tell = api.dispatchCustomEvent;
api.dispatchCustomEvent = function (type, detail) {
  const { nodeId, text, prompt_id, displayNodeId, jobId } = detail ?? {};
  let here = true;
  if (type === "progress_text" && text) here = isHere(`${nodeId}`, jobOf(prompt_id), { text });
  if (type === PICTURE) here = isHere(`${displayNodeId}`, jobOf(jobId), { picture: detail });
  return here && tell.call(this, type, detail);
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
    if (text && found) tell.call(api, "progress_text", { nodeId: id, text });
    if (picture) tell.call(api, PICTURE, picture);
  }
}

app.registerExtension({
  name: "AttnDreamBooth.LastWords",
  setup() {
    api.addEventListener("executing", ({ detail }) => forget(`${detail}`));
    // after the page's own listeners
    ENDS.forEach((end) => api.addEventListener(end, () => setTimeout(tellAgain)));
  },
  beforeConfigureGraph() {
    opening = true;
  },
  afterConfigureGraph() {
    setTimeout(() => {
      opening = false; // in the next turn it calls the one open whose nodes it has made
      tellAgain();
    });
  },
});
