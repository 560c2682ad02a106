// Load Concept Dataset: photos by button, drop or paste, and what is in the chosen folder.
import { app } from "../../scripts/app.js";
import { api } from "../../scripts/api.js";
import { addBox, after, choose, element, everyNode, isLinked } from "./parts.js";
import { keepFresh, offer, picture, widgetOf } from "./parts.js";

const NODE = "AttnDBLoadConceptDataset";
const TYPED = "(typed path)";
const HEIGHT = 120; // a bar of two lines, and a row of pictures
const MOST = 100; // photos of one drop
const SOON = 50; // milliseconds
const OVERHEAD = 4096; // bytes of a form around its file
const HINT = "Drop or paste photos here: 3 to 6 of one subject";
const SAVED_IN = "attndb_uploads"; // property: the folder that this node's uploads go into
const MEGABYTE = 1 << 20;
const ACCEPT = "image/*,.heic,.heif,.hif,.avif,.tif,.tiff"; // a file chooser may not know them
const HEIF = /^ftyp(he|mif1|msf1)/; // bytes 4 to 12 of a HEIC, whatever its name

class PhotoBox {
  constructor(node) {
    this.node = node;
    this.work = Promise.resolve();
    this.asked = 0;
    this.soon = null;
    this.said = "";
    this.input = element("input", "");
    Object.assign(this.input, { type: "file", multiple: true, accept: ACCEPT });
    this.button = element("button", "", "Add photos");
    this.button.type = "button";
    this.says = element("span", "attndb-says", HINT);
    this.pictures = element("div", "attndb-pictures");
    const bar = element("div", "attndb-bar", this.button, this.says);
    this.box = element("div", "attndb-box", bar, this.pictures);
    addBox(node, "photo_upload", "photos", this.box, HEIGHT);
    this.listen();
    this.relist();
    this.show();
  }

  get folder() {
    if (isLinked(this.node, "folder")) return null;
    const chosen = widgetOf(this.node, "folder").value;
    return chosen === TYPED ? widgetOf(this.node, "path").value : chosen;
  }

  listen() {
    const { node, box } = this;
    this.button.addEventListener("click", () => this.input.click());
    this.input.addEventListener("change", () => {
      this.add([...this.input.files]);
      this.input.value = "";
    });
    box.addEventListener("dragover", (event) => {
      if (!hasFiles(event)) return;
      event.preventDefault();
      event.stopPropagation();
      box.classList.add("attndb-over");
    });
    box.addEventListener("dragleave", () => box.classList.remove("attndb-over"));
    box.addEventListener("drop", (event) => {
      box.classList.remove("attndb-over");
      if (!hasFiles(event)) return;
      event.preventDefault();
      event.stopPropagation();
      this.addDropped(event);
    });
    // The rest of the node: the page asks these two of the node under the pointer, and gives
    // pasted pictures to a chosen node that takes pictures.
    node.onDragOver = hasFiles;
    node.onDragDrop = (event) => hasFiles(event) && (this.addDropped(event), true);
    node.previewMediaType = "image";
    node.pasteFiles = (files) => (this.add([...files]), true);
    for (const name of ["folder", "path"]) {
      after(widgetOf(node, name), "callback", () => this.show());
    }
    after(node, "onConfigure", () => queueMicrotask(() => this.show()));
    after(node, "onConnectionsChange", () => this.show());
    keepFresh(node, () => (this.relist(), this.show()));
  }

  /** Asks which folders there are now. */
  async relist() {
    const answer = await api.fetchApi(`/object_info/${NODE}`).catch(() => null);
    if (!answer?.ok) return;
    const [kind, more] = (await answer.json())[NODE].input.required.folder;
    const values = Array.isArray(kind) ? kind : more.options;
    offer(widgetOf(this.node, "folder"), values.slice(1), 1);
  }

  /** Shows what is in the chosen folder, soon: a page that opens a workflow tells a node many
   * things, and the server is asked once. */
  show() {
    this.soon ??= new Promise((done) => setTimeout(done, SOON)).then(() => {
      this.soon = null;
      return this.look();
    });
    return this.soon;
  }

  async look() {
    const asked = ++this.asked;
    const folder = this.folder;
    if (folder === null) return this.fill([], "The folder comes over a wire");
    if (!folder) return this.fill([], this.said || HINT, Boolean(this.said));
    const found = await listed(folder);
    if (asked !== this.asked) return;
    const pictures = found.photos.map((photo) => {
      const asks = new URLSearchParams({ folder, version: photo.version });
      return picture(`/attndreambooth/photo?${asks}`, photo.name, (why) => this.say(why, true));
    });
    const shown = found.photos.length;
    const count = shown < found.count ? `the first ${shown} of ${found.count}` : `${found.count}`;
    const told = found.count ? `${count} photo${found.count === 1 ? "" : "s"} in ${folder}` : HINT;
    this.fill(pictures, this.said || found.error || told, Boolean(this.said || found.error));
  }

  fill(pictures, text, wrong = false) {
    this.pictures.replaceChildren(...pictures);
    this.say(text, wrong);
  }

  say(text, wrong = false) {
    this.says.textContent = text;
    this.says.title = text;
    this.says.classList.toggle("attndb-wrong", wrong);
  }

  async addDropped(event) {
    const files = await droppedFiles(event.dataTransfer).catch(() => []);
    if (files.length) this.add(files);
    else this.say("Nothing was taken: drop photos, or the folder that they lie in", true);
  }

  /** Uploads one after the other; a second drop waits for the first. */
  add(files) {
    if (!files.length) return this.work;
    this.work = this.work.then(async () => {
      this.button.disabled = true;
      try {
        await this.upload(files);
      } catch (error) {
        this.said = `The photos were not uploaded: ${error.message}`;
      } finally {
        this.button.disabled = false;
        await this.show();
        this.said = "";
      }
    });
    return this.work;
  }

  async upload(files) {
    const before = await listed(this.folder || TYPED);
    const most = (await limit()) - OVERHEAD;
    const refused = files.slice(MOST).map((file) => `${file.name}: at most ${MOST} at once`);
    const good = [];
    for (const file of files.slice(0, MOST)) {
      const why = await reason(file, before, most);
      why ? refused.push(`${file.name}: ${why}`) : good.push(file);
    }
    let folder = null;
    for (const [number, file] of good.entries()) {
      this.say(`Uploading ${number + 1} of ${good.length}: ${file.name}`);
      folder ??= await this.target(before);
      const why = await send(file, folder);
      if (why) refused.push(`${file.name}: ${why}`);
    }
    if (folder) this.chose(folder);
    this.said = refused.length ? `Not taken: ${refused.join("; ")}` : "";
  }

  /** The folder of this node's earlier uploads while it is the chosen one, else a new one. */
  async target(before) {
    const earlier = this.node.properties?.[SAVED_IN];
    if (earlier && earlier === this.folder && before.subfolder === earlier) return earlier;
    const words = ["placeholder", "category"].map((name) => widgetOf(this.node, name)?.value ?? "");
    const name = words.map((word) => `${word}`.trim()).find((word) => word) ?? "photos";
    const body = JSON.stringify({ name });
    const answer = await api.fetchApi("/attndreambooth/folder", { method: "POST", body });
    if (!answer.ok) throw new Error(await answer.text());
    return (await answer.json()).folder;
  }

  chose(folder) {
    this.node.setProperty?.(SAVED_IN, folder);
    everyNode((node) => {
      const widget = node.comfyClass === NODE ? widgetOf(node, "folder") : null;
      if (widget) offer(widget, [...widget.options.values.slice(1), folder], 1);
    });
    choose(this.node, widgetOf(this.node, "folder"), folder);
  }
}

const hasFiles = (event) => Boolean(event.dataTransfer?.types?.includes("Files"));

/** What the server says of a folder. */
async function listed(folder) {
  const nothing = { photos: [], count: 0, subfolder: null, suffixes: [], unread: {}, error: "" };
  const asks = new URLSearchParams({ folder });
  const answer = await api.fetchApi(`/attndreambooth/photos?${asks}`).catch(() => null);
  if (!answer?.ok) return { ...nothing, error: "The server does not answer" };
  return { ...nothing, ...(await answer.json()) };
}

/** Bytes that the server takes in one upload. */
async function limit() {
  const answer = await api.fetchApi("/features").catch(() => null);
  return (answer?.ok && (await answer.json()).max_upload_size) || 100 * MEGABYTE;
}

/** Why a file is not uploaded; empty if it is. */
async function reason(file, { suffixes, unread }, most) {
  const suffix = file.name.includes(".") ? `.${file.name.split(".").pop().toLowerCase()}` : "";
  const heif = suffix !== ".avif" && HEIF.test(await file.slice(4, 12).text().catch(() => ""));
  const why = unread[suffix] ?? (heif ? unread[".heic"] : null);
  if (why) return why;
  if (!suffixes.includes(suffix)) return "no picture of a kind that is read";
  if (file.size > most) {
    const [size, takes] = [file.size, most].map((bytes) => Math.ceil(bytes / MEGABYTE));
    return `${size} MB, and this server takes ${takes} MB (--max-upload-size): make it smaller`;
  }
  if (heif || [".tif", ".tiff"].includes(suffix)) return ""; // not every browser reads it
  try {
    (await createImageBitmap(file)).close();
    return "";
  } catch {
    return "cannot be read as a picture";
  }
}

/** Uploads by the stock route, which keeps a file of the same name and gives this one another; why
 * not, if it failed. */
async function send(file, subfolder) {
  const body = new FormData();
  body.append("image", file, file.name);
  body.append("subfolder", subfolder);
  body.append("type", "input");
  const answer = await api.fetchApi("/upload/image", { method: "POST", body }).catch(() => null);
  if (answer?.ok) return "";
  return answer ? `the server refused it (${answer.status})` : "the connection broke";
}

/** The files of a drop; of a folder, those in it. */
async function droppedFiles(transfer) {
  const entries = [...transfer.items].map((item) => item.webkitGetAsEntry?.()).filter(Boolean);
  if (!entries.some((entry) => entry.isDirectory)) return [...transfer.files];
  const found = [];
  for (const entry of entries) {
    const inside = entry.isDirectory ? await entriesOf(entry.createReader()) : [entry];
    for (const each of inside.filter((one) => one.isFile && !one.name.startsWith("."))) {
      found.push(await new Promise((resolve, reject) => each.file(resolve, reject)));
    }
  }
  return found;
}

async function entriesOf(reader) {
  const found = [];
  for (;;) {
    const some = await new Promise((resolve, reject) => reader.readEntries(resolve, reject));
    if (!some.length) return found;
    found.push(...some);
  }
}

app.registerExtension({
  name: "AttnDreamBooth.Photos",
  nodeCreated(node) {
    if (node.comfyClass === NODE) new PhotoBox(node);
  },
});
