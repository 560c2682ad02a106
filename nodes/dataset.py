"""Nodes that make a concept dataset: from a folder, or from images on a wire."""

from __future__ import annotations

from comfy_api.latest import io

from ..attndb.data.dataset import DEFAULT_PLACEHOLDER, DEFAULT_TEMPLATE, ConceptDataset
from ..attndb.data.folder import image_files, load_folder
from ..attndb.data.photo_file import photos_from_arrays
from .errors import naming_node
from .host.paths import input_folders, resolve_folder
from .host.ui.images import contact_strip, to_image
from .socket_types import Dataset

CATEGORY = "AttnDreamBooth/dataset"
TYPED = "(typed path)"


def _words() -> list[io.Input]:
    return [
        io.String.Input(
            "category",
            default="",
            tooltip="The super-category: the plain word for what the subject is, e.g. dog, "
            "backpack, sloth. The new token starts from it and its attention map is tied to it.",
        ),
        io.String.Input(
            "placeholder",
            default=DEFAULT_PLACEHOLDER,
            tooltip="The new word that will stand for your subject. In prompts write it with the "
            "category: '<my-sloth> sloth'. Choose something the model does not know as a word.",
        ),
        io.String.Input(
            "template",
            default=DEFAULT_TEMPLATE,
            tooltip="The training prompt. {} becomes '<placeholder> category'. The published "
            "recipe uses 'a photo of a {}' in every stage.",
            advanced=True,
        ),
    ]


def _outputs() -> list[io.Output]:
    return [
        Dataset.Output(
            "dataset", tooltip="Photos, placeholder, category and template: connect to the stages."
        ),
        io.Image.Output(
            "photos", tooltip="The photos side by side, upright, as they will be used."
        ),
    ]


def _result(dataset: ConceptDataset) -> io.NodeOutput:
    strip = to_image([contact_strip([photo.image for photo in dataset.photos])])
    return io.NodeOutput(dataset, strip)


class LoadConceptDataset(io.ComfyNode):
    """Photos of one subject from a folder."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="AttnDBLoadConceptDataset",
            display_name="Load Concept Dataset",
            category=CATEGORY,
            description="Loads 3-6 photos of your subject from a folder (sorted, turned upright by "
            "their EXIF tag) together with the words that training needs.",
            search_aliases=[
                *("dreambooth dataset", "training images", "load folder", "photo folder", "photos"),
                *("subject", "face", "character", "style", "image folder"),
            ],
            inputs=[
                io.Combo.Input(
                    "folder",
                    options=[TYPED, *input_folders()],
                    tooltip="A folder under ComfyUI's input directory that holds the photos "
                    f"(sub-folders count), or {TYPED} to use the path below.",
                ),
                io.String.Input(
                    "path",
                    default="",
                    tooltip=f"Used when folder is {TYPED}: any folder, absolute or relative to the "
                    "input directory. Windows paths and quotes are fine.",
                ),
                *_words(),
                io.Boolean.Input(
                    "skip_broken",
                    default=False,
                    tooltip="Off: a file that cannot be read stops with its name. On: it is "
                    "skipped with a warning and the rest is used.",
                    advanced=True,
                ),
            ],
            outputs=_outputs(),
        )

    @classmethod
    def validate_inputs(cls, folder: str) -> bool:
        return True

    @classmethod
    def fingerprint_inputs(cls, folder: str, path: str, **_: object) -> str:
        """Changes when a photo is added, removed or replaced, so that the graph runs again."""
        try:
            files = image_files(resolve_folder(path if folder == TYPED else folder))
        except (ValueError, OSError) as error:
            return str(error)
        return repr([(str(f), f.stat().st_mtime_ns, f.stat().st_size) for f in files])

    @classmethod
    @naming_node
    def execute(
        cls,
        folder: str,
        path: str,
        category: str,
        placeholder: str,
        template: str,
        skip_broken: bool,
    ) -> io.NodeOutput:
        chosen = resolve_folder(path if folder == TYPED else folder)
        photos = load_folder(chosen, skip_broken=skip_broken)
        return _result(ConceptDataset(photos, category, placeholder, template))


class ConceptDatasetFromImages(io.ComfyNode):
    """Photos of one subject from any node that gives images."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="AttnDBConceptDatasetFromImages",
            display_name="Concept Dataset From Images",
            category=CATEGORY,
            description="Makes a concept dataset from an IMAGE batch, so that photos can come from "
            "any stock node (Load Image, Batch Images, ...).",
            search_aliases=["dreambooth dataset", "training images", "photos", "image batch"],
            inputs=[
                io.Image.Input("images", tooltip="3-6 photos of the subject as one batch."),
                *_words(),
            ],
            outputs=_outputs(),
        )

    @classmethod
    @naming_node
    def execute(
        cls, images: io.Image.Type, category: str, placeholder: str, template: str
    ) -> io.NodeOutput:
        photos = photos_from_arrays([image.cpu().float().numpy() for image in images])
        return _result(ConceptDataset(photos, category, placeholder, template))


NODES: list[type[io.ComfyNode]] = [LoadConceptDataset, ConceptDatasetFromImages]
