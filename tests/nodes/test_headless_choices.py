"""What a file of subjects may say is what the nodes offer, with the same defaults."""

from __future__ import annotations

import dataclasses
from typing import get_args, get_type_hints

import pytest

from attndreambooth.attndb.jobs.job import Job, PhotoChoice, PreviewChoice, PriorChoice, SaveChoice

NODES = {
    PhotoChoice: "AttnDBLoadConceptDataset",
    PriorChoice: "AttnDBAddPriorImages",
    PreviewChoice: "AttnDBTrainingPreview",
    SaveChoice: "AttnDBSaveConcept",
    Job: "AttnDBAllStages",
}
OTHERWISE = {"folder", "name"}
"""What a file says in its own way."""


@pytest.mark.parametrize("choice", NODES, ids=lambda choice: choice.__name__)
def test_defaults_and_choices_are_the_nodes_own(choice, host):
    from attndreambooth.nodes import all_nodes

    [node] = [n for n in all_nodes() if n.define_schema().node_id == NODES[choice]]
    widgets = {w.id: w for w in node.define_schema().inputs}
    hints, compared = get_type_hints(choice), 0
    for field in dataclasses.fields(choice):
        widget = widgets.get(field.name)
        if widget is None or field.name in OTHERWISE or field.default is dataclasses.MISSING:
            continue
        options = getattr(widget, "options", None)
        if options and hints[field.name] is str:  # the host's own list, which is not known here
            assert field.default in options, field.name
        elif options:
            assert list(get_args(hints[field.name])) == list(options), field.name
        default = getattr(widget, "default", None)
        if default is None and options:
            default = options[0]
        if default is not None:
            assert field.default == default, field.name
            compared += 1
    assert compared >= 2
