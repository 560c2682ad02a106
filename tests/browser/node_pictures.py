"""Pictures of the nodes in use, for their help pages: web/docs/pictures/ID.png.

    .venv/bin/python tests/browser/node_pictures.py [ID...]

Each shows a node of a shipped workflow, or of a small graph below, as the classic canvas draws it,
with the nodes that it is wired to, folded. The names of its inputs are in the file, so that a test
sees when the picture is of another schema. The server has a saved concept and its five photos.
"""

from __future__ import annotations

import base64
import io
import json
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import torch
from PIL import Image
from PIL.PngImagePlugin import PngInfo
from support.frontend import ONLY_THE_GRAPH, SHOW, FrontEnd
from support.graph import Graph
from support.page import opened_page

from attndreambooth.attndb.artifacts.concept import TrainedConcept
from attndreambooth.attndb.artifacts.concept_files import concept_files
from attndreambooth.attndb.artifacts.tensor_file import write_whole
from attndreambooth.devkit.pack import ROOT
from attndreambooth.micro.concepts import CONCEPTS

PICTURES = ROOT / "web" / "docs" / "pictures"
INPUTS = "inputs"
"""Name of the text in a picture: the inputs of the node that it shows."""
SCALE, COLORS = 1.25, 96
BADGES = ("Comfy.NodeBadge.NodeSourceBadgeMode", "Comfy.NodeBadge.NodeLifeCycleBadgeMode")
"""Settings of the page: whether the pack's name, and BETA, stand over nodes."""
SUBJECT, CONCEPT, PLACEHOLDER = "ringed-cat", "my-cat", "<my-cat>"
"""Of the world, and what it is saved as."""
FIRST = (
    *("Teach a subject", "Stage by stage", "Concept with ControlNet", "Compare stages"),
    *("Where each word looks", "Evaluate a concept"),
)
"""Workflows that are looked in first; then the others, by name."""
ALONE = """({type, gap}) => {
    const graph = app.graph, node = graph._nodes.find(each => each.type === type);
    const links = [...graph.links.values()];
    const before = links.filter(l => l.target_id === node.id).map(l => l.origin_id);
    const behind = links.filter(l => l.origin_id === node.id).map(l => l.target_id);
    const kept = new Set([node.id, ...before, ...behind]);
    for (const each of [...graph._nodes]) if (!kept.has(each.id)) graph.remove(each);
    for (const link of [...graph.links.values()]) {
        if (![link.origin_id, link.target_id].includes(node.id)) graph.removeLink(link.id);
    }
    graph._groups.length = 0;
    node.title = node.constructor.title;  // a workflow may call it otherwise
    node.size = [Math.max(node.size[0], 330), Math.min(node.size[1], node.computeSize()[1] + 20)];
    const pen = document.createElement('canvas').getContext('2d');
    const stack = (ids, x) => Math.max(0, ...[...new Set(ids)].map((id, row) => {
        const each = graph.getNodeById(id);
        if (!each.flags.collapsed) each.collapse(true);
        each.pos = [x, 30 + row * 44];
        pen.font = each.titleFontStyle;
        const wide = pen.measureText(each.getTitle()).width + 52;
        Object.defineProperty(each, '_collapsed_width', {get: () => wide, set() {}});
        each.onDrawTitleText = function (context, height) {  // the page's own ends after 20 letters
            context.font = each.titleFontStyle;
            context.fillStyle = LiteGraph.NODE_TITLE_COLOR;
            context.textAlign = 'left';
            context.fillText(each.getTitle(), height, LiteGraph.NODE_TITLE_TEXT_Y - height);
        };
        return wide;
    }));
    const width = stack(before, 0);
    node.pos = [before.length ? width + gap : 0, 0];
    const next = node.pos[0] + node.size[0] + gap;
    const last = stack(behind.filter(id => !before.includes(id)), next);
    const rows = Math.max(new Set(before).size, new Set(behind).size) * 44;
    const right = node.pos[0] + node.size[0] + (behind.length ? gap + last : 0);
    return {
        box: [-10, -46, right + 20, Math.max(node.size[1], rows) + 56],
        inputs: node.inputs.map(slot => slot.name).sort(),
    };
}"""


def elsewhere() -> dict[str, Graph]:
    """Small graphs of the nodes that no shipped workflow has, by the node's id."""
    graphs: dict[str, Graph] = {}

    def begin(kind: str) -> Graph:
        return graphs.setdefault(kind, Graph())

    graph = begin("AttnDBAttentionMapRegularization")
    tied = graph.add("AttnDBAttentionMapRegularization")
    graph.add("AttnDBStage2TrainCrossAttention", regularization=tied[0])
    graph = begin("AttnDBCompareAttention")
    maps = [graph.add("AttnDBAttentionMaps")[2] for _ in range(2)]
    compared = graph.add(
        "AttnDBCompareAttention",
        **{"maps_1": maps[0], "maps_2": maps[1], "labels": "before training\nafter stage 3"},
    )
    graph.add("SaveImage", images=compared[0])
    graph = begin("AttnDBEvaluateConcept")
    base, photos = graph.add("AttnDBLoadMicroModel"), graph.add("AttnDBMicroConcept")
    encoder = graph.add("AttnDBLoadImageEncoder")
    stages = ("Stage1LearnEmbedding", "Stage2TrainCrossAttention", "Stage3TrainUNet")
    learned = [graph.add(f"AttnDB{stage}")[0] for stage in stages]
    scored = graph.add(
        "AttnDBEvaluateConcept",
        **dict(zip(("model", "clip", "vae"), (base[0], base[1], base[2]), strict=True)),
        **{f"concepts.concept_{number}": concept for number, concept in enumerate(learned)},
        **{"encoders.encoder_0": encoder[0], "photos": photos[0]},
        **{"prompts": "a photo of a {} in a forest\na sketch of a {} on the beach"},
        **{"width": 128, "height": 128},
    )
    graph.add("SaveImage", images=scored[0])
    graph.add("AttnDBTrainingReport", concept=scored[2], scores=scored[3])
    graph = begin("AttnDBLoadConcept")
    loaded = graph.add("AttnDBLoadConcept", name=CONCEPT)
    graph.add("AttnDBApplyConcept", concept=loaded[0])
    graph.add("PreviewAny", source=loaded[1])
    graph = begin("AttnDBCreateHookConcept")
    loaded = graph.add("AttnDBLoadConcept", name=CONCEPT)
    hooks = graph.add("AttnDBCreateHookConcept", concept=loaded[0])
    graph.add("PairConditioningSetProperties", hooks=hooks[0])
    graph = begin("AttnDBLoadConceptDataset")
    words = {"category": "cat", "placeholder": PLACEHOLDER}
    dataset = graph.add("AttnDBLoadConceptDataset", folder=CONCEPT, **words)
    graph.add("AttnDBAllStages", dataset=dataset[0])
    graph.add("PreviewImage", images=dataset[1])
    graph = begin("AttnDBImportConcept")
    base = graph.add("CheckpointLoaderSimple")
    taken = graph.add(
        "AttnDBImportConcept",
        **{"model": base[0], "embedding": "learned_embeds.safetensors"},
        **{"category": "cat", "placeholder": PLACEHOLDER},
    )
    graph.add("AttnDBApplyConcept", concept=taken[0])
    graph = begin("AttnDBExportToDiffusers")
    base, concept = graph.add("CheckpointLoaderSimple"), graph.add("AttnDBLoadConcept")
    folder = graph.add("AttnDBExportToDiffusers", model=base[0], concept=concept[0])
    graph.add("PreviewAny", source=folder[0])
    graph = begin("AttnDBLoadImageEncoder")
    encoder = graph.add("AttnDBLoadImageEncoder", folder="clip-vit-base-patch32")
    graph.add("AttnDBScoreImages", **{"encoders.encoder_0": encoder[0]})
    graph = begin("AttnDBScoreImages")
    drawn, photos = graph.add("VAEDecode"), graph.add("LoadImage")
    encoder = graph.add("AttnDBLoadImageEncoder")
    scored = graph.add(
        "AttnDBScoreImages",
        **{"images": drawn[0], "photos": photos[0], "encoders.encoder_0": encoder[0]},
        **{"prompt": "a {} in the snow", "category": "cat"},
    )
    graph.add("PreviewAny", source=scored[0])
    return graphs


def filled(base: Path) -> None:
    """Photos in the server's input folder, and the concept that was learned from them, saved."""
    photos = [Image.fromarray(drawn.picture) for drawn, _ in CONCEPTS[SUBJECT].photos()]
    folder = base / "input" / CONCEPT
    folder.mkdir()
    for number, photo in enumerate(photos, 1):
        photo.save(folder / f"photo-{number}.png")
    buffer = io.BytesIO()
    photos[0].save(buffer, "JPEG")
    picture = f"data:image/jpeg;base64,{base64.b64encode(buffer.getvalue()).decode()}"
    concept = TrainedConcept(
        placeholder=PLACEHOLDER,
        category="cat",
        text_key="clip_l",
        vectors=torch.ones(1, 768),
        delta={},
        base_family="SD 1.5",
        record={"thumbnail": picture},
    )
    embedding = base / "models" / "embeddings" / f"{CONCEPT}.safetensors"
    write_whole(concept_files(concept, CONCEPT, embedding, embedding.with_name("no weights")))


def workflows() -> list[dict[str, Any]]:
    """The shipped workflows, the plainest first."""
    folder = ROOT / "workflows"
    names = [*FIRST, *sorted(p.stem for p in folder.glob("*.json") if p.stem not in FIRST)]
    return [json.loads((folder / f"{n}.json").read_text(encoding="utf-8")) for n in names]


def picture(front_end: FrontEnd, kind: str, path: Path) -> None:
    """Writes the picture of a node."""
    if graph := elsewhere().get(kind):
        front_end.load_prompt(graph.prompt)
    else:
        shipped = (w for w in workflows() if kind in {node["type"] for node in w["nodes"]})
        front_end.load(next(shipped))
    page = front_end.page
    found = page.evaluate(ALONE, {"type": kind, "gap": 60})
    left, top, width, height = found["box"]
    offset = {"scale": SCALE, "offset": [80 - left, 60 - top]}  # clear of the page's own bars
    page.evaluate(SHOW, offset)
    page.wait_for_timeout(900)
    page.wait_for_function(
        "() => [...document.querySelectorAll('.attndb-box img')].every(each => each.naturalWidth)"
    )
    clip = {"x": 80 * SCALE, "y": 60 * SCALE, "width": width * SCALE, "height": height * SCALE}
    shot = Image.open(io.BytesIO(page.screenshot(clip=clip))).convert("RGB")
    said = PngInfo()
    said.add_text(INPUTS, " ".join(found["inputs"]))
    shot.quantize(COLORS, dither=Image.Dither.NONE).save(path, pnginfo=said, optimize=True)


def main(kinds: list[str]) -> int:
    PICTURES.mkdir(exist_ok=True)
    with opened_page(filled) as front_end:
        page = front_end.page
        page.set_viewport_size({"width": 1600, "height": 1400})
        page.add_style_tag(content=ONLY_THE_GRAPH)
        for badge in BADGES:
            page.evaluate("(name) => app.extensionManager.setting.set(name, 'None')", badge)
        for kind in kinds or sorted(p.stem for p in PICTURES.parent.glob("*.md")):
            picture(front_end, kind, PICTURES / f"{kind}.png")
            print(f"{PICTURES / kind}.png written")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
