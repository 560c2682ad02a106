"""Nodes that make a concept dataset: from a folder, or from images on a wire."""

from __future__ import annotations

import logging
from typing import Any, get_args

from comfy_api.v0_0_2 import io

from ..attndb.config.choices import CaptionKind, CaptionSource, MaskSource, require_choice
from ..attndb.config.printable import printable, quoted
from ..attndb.data.caption import captioned
from ..attndb.data.dataset import DEFAULT_TEMPLATE, ConceptDataset
from ..attndb.data.mask import checked_alpha, with_masks
from ..attndb.data.photo import DatasetError
from ..attndb.data.photo_file import photos_from_arrays
from ..attndb.data.photo_warnings import warn_of_photos
from ..attndb.data.placeholder import default_placeholder
from ..attndb.data.plain_caption import SubjectWords
from .errors import naming_node
from .host.linked import LinkedFiles
from .host.photo_folders import folder_state, photo_folders, read_folder
from .host.typed_path import unquoted
from .host.ui.images import contact_strip, to_image
from .socket_types import Dataset
from .wires import lines_of, one_value, separate_images, separate_masks

log = logging.getLogger(__name__)

CATEGORY = "AttnDreamBooth/dataset"
TYPED = "(typed path)"
CAPTIONS = get_args(CaptionSource)
KINDS = get_args(CaptionKind)


def _words(named_after: str) -> list[io.Input]:
    return [
        io.String.Input(
            "category",
            default="",
            tooltip="The super-category: the plain word for what the subject is, e.g. dog, "
            "backpack, sloth. The new token starts from it and its attention map is tied to it.",
        ),
        io.String.Input(
            "placeholder",
            default="",
            tooltip="The new word that will stand for your subject. In prompts write it with the "
            "category: '<my-sloth> sloth'. Choose something the model does not know as a word. "
            f"Empty: made from {named_after}; the log says what it is.",
        ),
        io.String.Input(
            "template",
            default=DEFAULT_TEMPLATE,
            multiline=True,
            tooltip="The training prompt of photos without a caption. {} becomes '<placeholder> "
            "category'. The published recipe uses 'a photo of a {}' in every stage. Several lines "
            "are several prompts, which come equally often.",
            advanced=True,
        ),
    ]


def _private() -> io.Input:
    return io.Boolean.Input(
        "private",
        default=False,
        optional=True,  # prompts that were saved before it was there run as they did
        tooltip="Off: a trained concept's files hold the photos' names, their SHA-256 and a "
        "thumbnail (256 px) of the first photo. On: no names and no thumbnail. The training is the "
        "same.",
        advanced=True,
    )


def _background() -> io.Input:
    return io.Float.Input(
        "background_weight",
        default=0.0,
        min=0.0,
        max=1.0,
        step=0.05,
        optional=True,
        tooltip="What the pixels around the subject count in the loss, on photos that have a mask. "
        "0: the subject alone is learned. 1: as without masks.",
        advanced=True,
    )


def _trigger(plain: str, example: str) -> io.Input:
    return io.String.Input(
        "trigger",
        default="",
        optional=True,
        tooltip=f"For {plain}: what the subject is called in them, {example}",
        advanced=True,
    )


def _outputs() -> list[io.Output]:
    return [
        Dataset.Output(
            "dataset", tooltip="Photos, placeholder, category and template: connect to the stages."
        ),
        io.Image.Output(
            "photos",
            tooltip="The photos side by side, upright, as they will be used; the first ones if "
            "there are many.",
        ),
    ]


def _result(dataset: ConceptDataset, placeholder: str) -> io.NodeOutput:
    if not placeholder.strip():
        log.info("placeholder: %s, to be written in prompts", printable(dataset.placeholder))
    warn_of_photos(dataset)
    strip = to_image([contact_strip([photo.image for photo in dataset.photos])])
    return io.NodeOutput(dataset, strip)


_linked = LinkedFiles(folder_state)


class LoadConceptDataset(io.ComfyNode):
    """Photos of one subject from a folder."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="AttnDBLoadConceptDataset",
            display_name="Load Concept Dataset",
            category=CATEGORY,
            description="Loads 3-6 photos of your subject from a folder (sorted, turned upright by "
            "their EXIF tag, in sRGB) together with the words that training needs.",
            search_aliases=[
                *("dreambooth dataset", "training images", "load folder", "photo folder", "photos"),
                *("subject", "face", "character", "style", "image folder"),
            ],
            inputs=[
                io.Combo.Input(
                    "folder",
                    options=[TYPED, *photo_folders()],
                    tooltip="A folder under ComfyUI's input or datasets directory that holds the "
                    f"photos (sub-folders count), or {TYPED} to use the path below. Photos that "
                    "are dropped on the node make a new one.",
                ),
                io.String.Input(
                    "path",
                    default="",
                    tooltip=f"Used when folder is {TYPED}: a folder below the input or datasets "
                    "directory, absolute or relative to it. Windows paths and quotes are fine. "
                    "Other places only if the server's owner allows them (see this node's help).",
                ),
                *_words("the folder's name"),
                io.Boolean.Input(
                    "skip_broken",
                    default=False,
                    tooltip="Off: a file that cannot be read stops with its name. On: it is "
                    "skipped with a warning and the rest is used.",
                    advanced=True,
                ),
                _private(),
                io.Combo.Input(
                    "captions",
                    options=list(CAPTIONS),
                    optional=True,
                    tooltip="template: every photo is trained with the template. text files: "
                    "dog.txt beside dog.jpg says what is on it, with {} for the subject, e.g. 'a "
                    "{} on a sofa'. plain text files: those of other trainers, without {}: it "
                    "stands for trigger or category then, or comes first. What a caption says is "
                    "not learned as part of the subject.",
                    advanced=True,
                ),
                io.Combo.Input(
                    "masks",
                    options=list(get_args(MaskSource)),
                    optional=True,
                    tooltip="Where the subject is, so that the loss looks at nothing else. alpha: "
                    "the photos' own transparency. files: dog_mask.png beside dog.jpg, or dog.png "
                    "in a folder masks beside it; white is the subject. none: the whole photo.",
                    advanced=True,
                ),
                _background(),
                _trigger(
                    "captions = plain text files",
                    "e.g. ohwx, or sks dog. Empty: what follows the number of a folder such as "
                    "10_sks dog, else the category alone.",
                ),
            ],
            outputs=_outputs(),
        )

    @classmethod
    def validate_inputs(cls, folder: object) -> bool | str:
        """Any text: folders come and go, and running says which is missing. None is a link."""
        if folder is None or isinstance(folder, str):
            return True
        return f"folder = {quoted(folder)} is no text: choose a folder, or {TYPED}"

    @classmethod
    def fingerprint_inputs(cls, folder: object = None, path: object = None, **_: object) -> str:
        """Changes when a photo is added, removed or replaced, so that the graph runs again. What
        comes over a wire is None here: then the folders that were read last are looked at."""
        chosen = path if folder == TYPED else folder
        return _linked.state() if chosen is None else folder_state(chosen)

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
        private: bool = False,
        captions: CaptionSource = "template",
        masks: MaskSource = "none",
        background_weight: float = 0.0,
        trigger: str = "",
    ) -> io.NodeOutput:
        require_choice("captions", captions, CAPTIONS)
        require_choice("masks", masks, get_args(MaskSource))
        chosen = path if folder == TYPED else folder
        word = placeholder
        if not word.strip():
            name = unquoted(chosen) if isinstance(chosen, str) else ""
            word = default_placeholder(name, plain=captions == "plain text files")
        words = SubjectWords(category, word, trigger)
        with _linked.reading(chosen):
            photos = read_folder(chosen, skip_broken, captions, words, masks)
        own = {"background": background_weight, "private": private}
        return _result(ConceptDataset(photos, category, word, template, **own), placeholder)


class ConceptDatasetFromImages(io.ComfyNode):
    """Photos of one subject from any node that gives images."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="AttnDBConceptDatasetFromImages",
            display_name="Concept Dataset From Images",
            category=CATEGORY,
            description="Makes a concept dataset from IMAGE batches and lists of images, of one or "
            "several sizes, so that photos can come from any stock node (Load Image, Batch Images, "
            "Load Image (from Folder), ...).",
            search_aliases=["dreambooth dataset", "training images", "photos", "image batch"],
            inputs=[
                io.Image.Input(
                    "images",
                    tooltip="3-6 photos of the subject: a batch, or a list of images whose sizes "
                    "may differ. All of them make one dataset.",
                ),
                *_words("the category"),
                _private(),
                io.String.Input(
                    "captions",
                    default="",
                    multiline=True,
                    optional=True,
                    tooltip="One line for each image: what is on it, with {} for the subject, e.g. "
                    "'a {} on a sofa'. An empty line leaves its image to the template. What a "
                    "caption says is not learned as part of the subject. Empty: the template.",
                    advanced=True,
                ),
                io.Mask.Input(
                    "masks",
                    optional=True,
                    tooltip="A mask for each image, 1 where the subject is: from Mask Subject, a "
                    "segmentation node, the mask editor. The loss looks at nothing else. Not "
                    "connected: the whole images.",
                ),
                io.Boolean.Input(
                    "alpha_masks",
                    default=False,
                    optional=True,
                    tooltip="Take the masks from the images' fourth channel instead, where they "
                    "have one (Join Image with Alpha).",
                    advanced=True,
                ),
                _background(),
                io.Combo.Input(
                    "captions_are",
                    options=list(KINDS),
                    optional=True,
                    tooltip="text: with {} for the subject. plain text: without, as a captioning "
                    "node (Florence-2, JoyCaption, a tagger) gives them: {} stands for trigger or "
                    "category then, or comes first.",
                    advanced=True,
                ),
                _trigger(
                    "captions_are = plain text",
                    "e.g. puppy where the category is dog. Empty: the category alone.",
                ),
            ],
            outputs=_outputs(),
            is_input_list=True,
        )

    @classmethod
    @naming_node
    def execute(
        cls,
        images: Any,
        category: Any,
        placeholder: Any,
        template: Any,
        private: Any = False,
        captions: Any = "",
        masks: Any = None,
        alpha_masks: Any = False,
        background_weight: Any = 0.0,
        captions_are: Any = "text",
        trigger: Any = "",
    ) -> io.NodeOutput:
        alpha = one_value("alpha_masks", alpha_masks)
        own = separate_masks(masks)
        if alpha and own:
            raise DatasetError(
                "alpha_masks is on, and masks are connected, too: disconnect them, or turn it off"
            )
        photos = photos_from_arrays(separate_images(images), alpha=alpha)
        photos = with_masks(checked_alpha(photos) if alpha else photos, own)
        general = one_value("category", category)
        typed = one_value("placeholder", placeholder)
        word = typed if typed.strip() else default_placeholder(general)
        kind = one_value("captions_are", captions_are)
        require_choice("captions_are", kind, KINDS)
        named = SubjectWords(general, word, one_value("trigger", trigger))
        plain = named if kind == "plain text" else None
        # what a captioning node says of a photo may be paragraphs
        lines = lines_of(captions, whole=plain is not None and len(photos) == 1)
        photos = captioned(photos, lines, plain)
        dataset = ConceptDataset(
            photos,
            general,
            word,
            one_value("template", template),
            background=one_value("background_weight", background_weight),
            private=one_value("private", private),
        )
        return _result(dataset, typed)


NODES: list[type[io.ComfyNode]] = [LoadConceptDataset, ConceptDatasetFromImages]
