"""What the notes in the shipped workflows say."""

TEACH_NOTE = """# Teach a model your subject

1. Choose a checkpoint: SD 1.5 or SD 2.1.
2. Drop 3-6 photos on *Load Concept Dataset*.
3. **category**: the plain word for the subject. **placeholder**: a new word for yours.
4. In *Prompt* write both in the place of `<my-dog> dog`.
5. Press **Run**. Cancel keeps the work; Run goes on."""
FAST_NOTE = """# Teach a subject, fast

The published fast recipe: stages 1 and 2 as in *Teach a subject*, then **200 steps of stage 3 at \
batch 4** with five times the rate. 2,080 samples in all instead of 5,280.

The paper calls it very close for short prompts and slightly worse for complex ones: then *Teach a \
subject*.

Drop the photos, write **category** and **placeholder**, in *Prompt* both in the place of \
`<my-dog> dog`, and press **Run**."""
LORA_NOTE = """# Teach a subject, as a LoRA

As *Teach a subject*, with **preset lora**: rank 16 in stages 2 and 3. For 8 GB and less, and for \
small files. Its rates are derived, **nobody has run them on trained weights yet**. Another rank: \
*Training Options*.

Drop the photos, write **category** and **placeholder**, in *Prompt* both in the place of \
`<my-dog> dog`, and press **Run**."""
CONTROL_NOTE = """# Your subject in the outlines of a picture

1. Choose the checkpoint that the concept was trained on, and a saved concept.
2. Choose the picture whose outlines count.
3. In the prompt `{}` stands for the subject. Press **Run**.

The subject is bent too much: lower **strength**, or end earlier (**end_percent**). Any other \
ControlNet is put in the same way: behind *Apply Concept*, on the prompts."""
EVALUATE_SD_NOTE = """# How good is your concept?

1. Choose the checkpoint that it was trained on and the saved concept, and drop its photos on \
*Load Concept Dataset*, with the **category**.
2. For the scores put [openai/clip-vit-base-patch32](https://huggingface.co/openai/\
clip-vit-base-patch32), the whole folder, into `models/clip_vision`.
3. Press **Run**.

A column before training, and one for each of **strengths** (folded): how much the pictures look \
like the photos (identity) and say what the prompt says (text). For several concepts connect more \
*Load Concept* nodes."""
SDXL_LORA_NOTE = """# Teach SDXL your subject, as a LoRA

As *Teach a subject (SDXL)*, with **preset sdxl-lora**: rank 16 in stages 2 and 3. By the estimate \
a 12 GB GPU is enough, and not 8 GB: *low_memory* turns itself on where a stage would not fit. Its \
numbers are derived, **nobody has run them on trained weights yet**.

Drop the photos, write **category** and **placeholder**, in *Prompt* both in the place of \
`<my-dog> dog`, and press **Run**."""
SDXL_NOTE = """# Teach SDXL your subject

As *Teach a subject*, with an SDXL checkpoint and **preset sdxl**: 1024 px, batch 4. Its numbers \
are derived from the paper's and **nobody has run them on trained weights yet**. In *Prompt* write \
your words in the place of `<my-dog> dog`.

A 24 GB GPU for all three stages, by the estimate; as a LoRA 12 GB (*Teach a subject (SDXL, \
LoRA)*). *Train Concept* says before it starts what it needs."""
APP_NOTE = """# As a form

**Graph > App** in the corner shows this graph as a form: photos, category, name and prompt in; \
the picture and the files' names out.

In the prompt `{}` stands for your subject. **preset** *lora* is for small GPUs, *sdxl* and \
*sdxl-lora* are for an SDXL checkpoint."""
TOY_NOTE = """# Teach a toy model a subject

Nothing to download: press **Run**. In a few minutes the toy model of this pack learns a robot \
with a hat, and draws it on a stage.

Then change the prompt: a sketch of, a watercolour of, in space, in front of a big yellow rocket, \
at night. Things that are held or worn it hardly draws."""
STAGES_NOTE = """# One node for each stage

Bypass a stage (Ctrl+B) to see what it does: the concept wire goes on without it, and *Apply \
Concept* applies what was learned.

Every stage keeps its work: only what you change, and the stages after it, train again.

Drop your photos, write **category** and **placeholder**, in *Prompt* both in the place of \
`<my-dog> dog`, and press **Run**."""
TWO_NOTE = """# Two subjects, one picture

Two concepts are learned apart. *Concept in Region* gives each its half of the picture, with its \
own prompt and weights, so that the robot does not get the car's cone. A third subject is a third \
node.

Move the regions with **left** and **width**; say the surroundings in both alike.

With your own photos: *Load Checkpoint* and *Load Concept Dataset* instead of the toys."""
COMPARE_NOTE = """# The paper's figure, for your subject

The same prompts and noise before training and after each stage, pictures over attention maps: \
where the new word looks, and where its category does.

With your own photos: *Load Checkpoint* and *Load Concept Dataset* instead of the toys, the \
stages' published steps and rates, and 512 px in *Compare Concepts*."""
EVALUATE_NOTE = """# Which concept is better?

The same prompts and noise before training and with each concept, and how much the pictures look \
like the photos (identity) and say what the prompt says (text). The best one goes on; the report \
in output/reports can be sent to somebody.

A concept that you have saved: *Evaluate a concept (SD 1.5)*."""
PRIOR_NOTE = """# Keep the category

The base model draws 32 pictures of the plain category. Stages 2 and 3 train on them as well, so \
that not every robot becomes yours.

The last pictures are your robot and a plain one."""
MASKS_NOTE = """# Keep what is not the subject out of it

*Mask Subject* finds the subject by the model's own attention to its category: no painting. \
**grow** (folded) widens what it finds. The loss counts the rest a fifth.

A caption for each photo names where it was taken, so that these words learn the place.

Look at *Preview Dataset* before you train: what lies under the veil counts less."""
NO_CLASS_NOTE = """# Keep the category, without class images

*prior_prediction* in *Training Options*: on the training's own noisy photos the model has to \
answer to the plain category as the base model does.

The last pictures are your robot and a plain one."""
EXTRACT_NOTE = """# A small file for Load LoRA

*Extract LoRA* makes a LoRA of the whole weights that were trained: rank 8, a tenth of the file. \
Its table says what is lost.

Left as the pack draws it, right as stock nodes draw it: the LoRA, and `embedding:` with the saved \
name in the prompt. Later take *Load LoRA* and choose the saved file. A LoRA of Stable Diffusion \
also loads in Forge, A1111 and diffusers.

More rank, less is lost: 4 to 128 is usual."""
METHODS_NOTE = """# Which method is better?

The same photos taught by AttnDreamBooth, Textual Inversion and DreamBooth; then the same prompts \
and noise with each, and how much the pictures look like the photos (identity) and say what the \
prompt says (text).

Choose another method in *Train Compared Method*: its settings below change with it. With your own \
photos: *Load Checkpoint*, *Load Concept Dataset*, a folder of CLIP in *Load Image Encoder*, the \
short prompts, 512 px, and the published steps, which are the defaults."""
BEST_STEP_NOTE = """# Which step was best?

*checkpoint_concepts* in *Training Options* keeps the concept of every 60th step. *Load Kept \
Concepts* gives them all to *Evaluate Concept*, and the best is saved.

More steps draw the subject more closely and may lose what the prompt says: the table tells both.

With your own photos: *Load Checkpoint*, *Load Concept Dataset*, preset paper, every 100th step, a \
folder of CLIP in *Load Image Encoder*, the short prompts, 512 px. Each kept concept of whole \
weights is a file of 1.7 GB."""
