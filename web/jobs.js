// From which open workflow a job was queued. Neither the server nor a workflow's id tells: two tabs
// of one template have the same id. What was queued before the page was loaded, or by another
// program, is of no workflow that is known here.
import { app } from "../../scripts/app.js";
import { api } from "../../scripts/api.js";
import { ENDS } from "./parts.js";

const jobs = new Map(); // by the job's id: its workflow, and the classes of its nodes by their ids
let running = null; // id of a job

/** The workflow whose tab is open. */
export const openWorkflow = () => app.extensionManager?.workflow?.activeWorkflow ?? app;

/** Of a job, else of the one that runs: its workflow and the classes of its nodes, if known. */
export const jobOf = (id) => jobs.get(id ?? running);

const queue = api.queuePrompt;
api.queuePrompt = async function (number, prompt, ...more) {
  const workflow = openWorkflow(); // of now: another may be open when the server has answered
  const answer = await queue.call(this, number, prompt, ...more);
  const nodes = Object.entries(prompt?.output ?? {}).map(([id, node]) => [id, node.class_type]);
  const known = answer?.prompt_id && workflow !== app; // not so in a page that has none yet
  if (known) jobs.set(answer.prompt_id, { workflow, classes: new Map(nodes) });
  return answer;
};

app.registerExtension({
  name: "AttnDreamBooth.Jobs",
  setup() {
    for (const name of ["execution_start", "progress_state"]) {
      api.addEventListener(name, ({ detail }) => (running = detail.prompt_id));
    }
    for (const end of ENDS) {
      api.addEventListener(end, ({ detail }) => setTimeout(() => jobs.delete(detail.prompt_id)));
    }
  },
});
