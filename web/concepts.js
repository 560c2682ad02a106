// Load Concept: the saved concepts with their pictures; new ones appear after a run.
import { app } from "../../scripts/app.js";
import { api } from "../../scripts/api.js";
import { addBox, after, choose, element, isLinked } from "./parts.js";
import { keepFresh, offer, picture, widgetOf } from "./parts.js";

const NODE = "AttnDBLoadConcept";
const HEIGHT = 128; // a line, and a row of cards

class ConceptBox {
  constructor(node) {
    this.node = node;
    this.concepts = [];
    this.says = element("span", "attndb-says", "");
    this.cards = element("div", "attndb-pictures");
    const box = element("div", "attndb-box", element("div", "attndb-bar", this.says), this.cards);
    addBox(node, "saved_concepts", "saved concepts", box, HEIGHT);
    after(widgetOf(node, "name"), "callback", () => this.mark());
    after(node, "onConfigure", () => queueMicrotask(() => this.mark()));
    after(node, "onConnectionsChange", () => this.mark());
    keepFresh(node, () => this.show());
    this.show();
  }

  /** Asks which concepts there are, and shows them if they are others than before. */
  async show() {
    const answer = await api.fetchApi("/attndreambooth/concepts").catch(() => null);
    if (!answer?.ok) return;
    const { concepts } = await answer.json();
    if (JSON.stringify(concepts) !== JSON.stringify(this.concepts)) {
      this.concepts = concepts;
      this.cards.replaceChildren(...concepts.map((concept) => this.card(concept)));
      const widget = widgetOf(this.node, "name");
      offer(widget, concepts.map((concept) => concept.name));
      if (!widget.value && concepts.length) choose(this.node, widget, concepts[0].name);
    }
    this.mark();
  }

  card({ name, trigger, version }) {
    const asks = new URLSearchParams({ name, version });
    const shown = picture(`/attndreambooth/concept?${asks}`, name);
    const card = element("button", "attndb-picture attndb-card", shown, element("span", "", name));
    Object.assign(card, { type: "button", title: `${name}: write ${trigger}` });
    card.dataset.concept = name;
    card.addEventListener("click", () => choose(this.node, widgetOf(this.node, "name"), name));
    return card;
  }

  /** Marks the chosen one, and says what to write for it. */
  mark() {
    const linked = isLinked(this.node, "name");
    const chosen = linked ? null : widgetOf(this.node, "name").value;
    for (const card of this.cards.children) {
      card.setAttribute("aria-pressed", String(card.dataset.concept === chosen));
    }
    const found = this.concepts.find((concept) => concept.name === chosen);
    const none = this.concepts.length ? "Choose a concept" : "No concept is saved yet: Save Concept";
    this.says.textContent = linked
      ? "The name comes over a wire"
      : found
        ? `In prompts write: ${found.trigger}`
        : chosen && this.concepts.length
          ? `${chosen} is not there`
          : none;
  }
}

app.registerExtension({
  name: "AttnDreamBooth.Concepts",
  nodeCreated(node) {
    if (node.comfyClass === NODE) new ConceptBox(node);
  },
});
